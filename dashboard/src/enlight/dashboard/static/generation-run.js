// Pictures that are being made: a place for each at once, each picture as it comes, and an end in every case.

import { ask, notify } from "./app.js";
import { eventsOf } from "./event-stream.js";
import { addPlaces, fill, refreshWhenPossible } from "./gallery.js";
import { showProblems } from "./generation-form.js";

const MOST_PLACES = 50;
const AFTER_A_STOP_MS = 1500;
const part = (name) => document.getElementById(name);
const button = part("generate");
let running = null;

const pictures = (count) => (count === 1 ? "1 picture" : `${count} pictures`);

function showState(made, count, beganAt) {
  const passed = Math.round((Date.now() - beganAt) / 1000);
  part("run-words").textContent = made ? `${made} of ${pictures(count)}` : "The first picture is on its way…";
  part("run-seconds").textContent = passed > 2 ? `${passed} s` : "";
  part("run-progress").value = made / count;
}

function begin(count) {
  const beganAt = Date.now();
  const run = { abort: new AbortController(), count, made: 0, places: addPlaces(count) };
  run.timer = setInterval(() => showState(run.made, count, beganAt), 500);
  showState(0, count, beganAt);
  part("run").hidden = false;
  button.disabled = true;
  button.lastChild.textContent = " Making them…";
  part("run").scrollIntoView({ block: "nearest" });
  return run;
}

function end(run) {
  clearInterval(run.timer);
  run.places.forEach((place) => place.remove());
  part("run").hidden = true;
  button.disabled = false;
  button.lastChild.textContent = " Generate";
  running = null;
}

/** Makes what the form asks for. */
export async function makePictures(values) {
  if (running) {
    return;
  }
  const count = Math.min(Math.max(parseInt(values.get("num_images"), 10) || 1, 1), MOST_PLACES);
  const run = (running = begin(count));
  let last = null;
  try {
    const answer = await ask("/generate/pictures", { method: "POST", body: values, signal: run.abort.signal });
    for await (last of eventsOf(answer)) {
      if (last.name === "picture") {
        run.made += 1;
        await fill(run.places.pop() ?? addPlaces(1)[0], last.data.id); // newest first, as they will be from now on
      }
    }
  } catch (error) {
    if (!run.abort.signal.aborted && !last) {
      end(run);
      showProblems(error.message, error.fields);
      return;
    }
  }
  const stopped = run.abort.signal.aborted;
  end(run);
  if (stopped) {
    notify(`Stopped. ${run.made ? "What was finished is in your gallery." : "A picture that was nearly finished may still come."}`);
    setTimeout(refreshWhenPossible, AFTER_A_STOP_MS);
  } else if (last?.name === "end") {
    notify(`${run.made === 1 ? "Your picture is" : `Your ${run.made} pictures are`} ready.`);
  } else if (last?.name === "error") {
    const some = run.made ? `${pictures(run.made)} of ${count} came, then it failed.` : "It failed.";
    notify(`${some} ${last.data.message} Press Generate to try again.`, { problem: true });
  } else {
    notify("The connection broke. What was finished is in your gallery, which is shown as soon as it can be reached.", {
      problem: true,
    });
    await refreshWhenPossible();
  }
}

/** Lets a run be stopped, and asks before a page is left that makes pictures. */
export function startStop() {
  part("stop").addEventListener("click", () => running?.abort.abort());
  addEventListener("beforeunload", (event) => {
    if (running) {
      event.preventDefault(); // what is not finished would not be made
    }
  });
}
