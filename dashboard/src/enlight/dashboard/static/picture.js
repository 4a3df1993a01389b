// The page of one picture.

import { notify } from "./app.js";
import { dress, startViewed, viewed } from "./viewed.js";
import { resumeWorks } from "./works.js";

startViewed({
  whenMade(picture, work) {
    if (viewed().dataset.viewed === work.source) {
      location.assign(`/pictures/${picture.id}`);
    } else {
      notify(`${work.words}: it is in your gallery.`);
    }
  },
  whenGone(picture) {
    const next = picture.querySelector(".step.older") ?? picture.querySelector(".step.newer");
    location.replace(next?.href ?? "/generate");
  },
});
resumeWorks();
dress();
