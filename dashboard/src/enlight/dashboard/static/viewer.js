// A picture above the gallery, with its own address: the page below goes on meanwhile.

import { ask, notify } from "./app.js";
import { add, drop, focusOn } from "./gallery.js";
import { dress, startViewed, viewed } from "./viewed.js";

const dialog = document.getElementById("viewer");
const notices = document.getElementById("notices");
const titleBelow = document.title;
let shown = null;

async function show(address) {
  const wanted = new URL(address, location.href);
  let answer;
  try {
    answer = await ask(`${wanted.pathname}/view${wanted.search}`);
  } catch (error) {
    notify(error.message, { problem: true });
    return;
  }
  const focused = dialog.contains(document.activeElement) ? document.activeElement.className : null;
  document.getElementById("viewed").innerHTML = await answer.text();
  dress();
  shown = viewed().dataset.viewed;
  document.title = `${document.getElementById("viewed-title").textContent} · Enlight`;
  if (dialog.open) {
    history.replaceState({ viewing: wanted.href }, "", wanted);
    (dialog.querySelector(`a[class="${focused}"]`) ?? dialog.querySelector("[data-close]")).focus();
  } else {
    if (history.state?.viewing !== wanted.href) {
      history.pushState({ viewing: wanted.href }, "", wanted);
    }
    dialog.append(notices); // above it, too
    dialog.showModal();
  }
}

function closed() {
  document.body.append(notices);
  document.title = titleBelow;
  document.getElementById("viewed").replaceChildren();
  if (history.state?.viewing) {
    history.back();
  }
  if (shown) {
    focusOn(shown);
  }
  shown = null;
}

async function gone(picture) {
  const next = picture.querySelector(".step.older") ?? picture.querySelector(".step.newer");
  drop(picture.dataset.viewed);
  notify("Deleted.");
  if (next) {
    await show(next.href);
  } else {
    dialog.close();
  }
}

async function made(picture, work) {
  await add(picture.id).catch(() => {}); // the gallery shows it when it is loaded again
  if (shown === work.source) {
    await show(`/pictures/${picture.id}`);
  } else {
    notify(`${work.words}: it is in your gallery.`);
  }
}

/** Has pictures of the gallery opened here. */
export function startViewer() {
  startViewed({ whenMade: made, whenGone: gone });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-view]");
    const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0;
    if (link && !elsewhere) {
      event.preventDefault();
      show(link.href);
    }
  });
  dialog.addEventListener("close", closed);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) {
      dialog.close(); // beside it
    }
  });
  addEventListener("popstate", (event) => {
    if (event.state?.viewing) {
      show(event.state.viewing);
    } else if (dialog.open) {
      dialog.close();
    }
  });
}
