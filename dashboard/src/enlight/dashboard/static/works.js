// Cut-outs and enlargements. They go on when their page is left; a page that is opened later finds what came of them.

import { ask, notify } from "./app.js";

const list = document.getElementById("works");
const kept = `enlight.works.${list.dataset.tenant}`;
const LOOK_EVERY_MS = 2000;
const GIVEN_UP_AFTER_MS = 15 * 60 * 1000;
let works = [];
let leaving = false;

addEventListener("pagehide", () => {
  leaving = true;
});

function keep() {
  try {
    localStorage.setItem(kept, JSON.stringify(works.map(({ id, source, kind, words, known, beganAt }) => ({ id, source, kind, words, known, beganAt }))));
  } catch {
    // A browser that keeps nothing: what is made is in the gallery all the same.
  }
}

function show(work) {
  const entry = document.createElement("li");
  const mark = document.createElement("span");
  mark.className = "busy-mark";
  mark.setAttribute("aria-hidden", "true");
  const thumbnail = document.createElement("img");
  thumbnail.src = `/pictures/${encodeURIComponent(work.source)}/thumbnail`;
  thumbnail.alt = "";
  const seconds = document.createElement("span");
  seconds.className = "number soft";
  seconds.setAttribute("aria-hidden", "true");
  const tick = () => {
    seconds.textContent = `${Math.round((Date.now() - work.beganAt) / 1000)} s`;
  };
  tick();
  work.timer = setInterval(tick, 1000);
  work.entry = entry;
  entry.append(mark, thumbnail, `${work.words}… You can leave this page.`, seconds);
  list.append(entry);
}

function add(work) {
  works.push(work);
  keep();
  show(work);
}

function end(work, name, detail) {
  clearInterval(work.timer);
  work.entry.remove();
  works = works.filter((other) => other !== work);
  keep();
  document.dispatchEvent(new CustomEvent(name, { detail: { work, ...detail } }));
}

const made = async (work) => (await ask(`/pictures/${encodeURIComponent(work.source)}/made?kind=${work.kind}`)).json();

/** What is being made of a picture now. */
export const worksOf = (source) => works.filter((work) => work.source === source);

/** Has something made of a picture. `enlight:made` or `enlight:not-made` tells the end to the whole page. */
export async function startWork(source, kind, words, body) {
  const work = { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), source, kind, words, known: [], beganAt: Date.now() };
  add(work);
  try {
    work.known = (await made(work)).map((picture) => picture.id);
    keep();
    const answer = await ask(`/pictures/${encodeURIComponent(source)}/${kind}`, { method: "POST", body });
    end(work, "enlight:made", { picture: await answer.json() });
  } catch (error) {
    if (!leaving) {
      end(work, "enlight:not-made", { message: error.message });
    }
  }
}

async function lookFor(work) {
  for (;;) {
    try {
      const fresh = (await made(work)).find((picture) => !work.known.includes(picture.id));
      if (fresh) {
        end(work, "enlight:made", { picture: fresh });
        return;
      }
    } catch {
      // The server is away, or the picture is gone: the time limit ends both.
    }
    if (Date.now() - work.beganAt > GIVEN_UP_AFTER_MS) {
      end(work, "enlight:not-made", { message: `${work.words}: nothing came of it. Try again.` });
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** Goes on with what was under way when the last page was left. */
export function resumeWorks() {
  let left = [];
  try {
    left = JSON.parse(localStorage.getItem(kept)) ?? [];
  } catch {
    return;
  }
  for (const work of left) {
    add(work);
    lookFor(work);
  }
  document.addEventListener("enlight:not-made", (event) => notify(event.detail.message, { problem: true }));
}
