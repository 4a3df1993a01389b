// One picture, on its own page or above the gallery: what can be done with it.

import { ask, notify } from "./app.js";
import { compare, startCompare } from "./compare.js";
import { startWork, worksOf } from "./works.js";

const SWIPE_PX = 60;
const question = document.getElementById("remove");

/** The picture that is shown; null: none. */
export const viewed = () => document.querySelector("#viewed .viewed");

/** Has what was just put there fit, and say what is under way. */
export function dress() {
  const picture = viewed();
  const image = picture.querySelector(".show > img");
  picture.querySelector(".show").style.setProperty("--ratio", image.getAttribute("width") / image.getAttribute("height"));
  compare(picture, picture.dataset.kind === "upscale");
  showWorks();
}

function showWorks(problem = "") {
  const picture = viewed();
  if (!picture) {
    return;
  }
  const under_way = worksOf(picture.dataset.viewed);
  for (const control of picture.querySelectorAll("button[data-work], form[data-work] button")) {
    const kind = control.closest("[data-work]").dataset.work;
    control.disabled = under_way.some((work) => work.kind === kind);
  }
  const words = under_way.map((work) => `${work.words}… You can close this and go on.`).join(" ");
  const place = picture.querySelector("#viewed-words");
  place.textContent = problem || words;
  place.classList.toggle("problem", Boolean(problem));
}

function begin(control) {
  const { viewed: source } = viewed().dataset;
  const isForm = control.tagName === "FORM";
  const words = isForm ? `${control.dataset.words} to ${control.elements.out_resolution.value} pixels` : control.dataset.words;
  startWork(source, control.dataset.work, words, isForm ? new URLSearchParams(new FormData(control)) : undefined);
  showWorks();
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Only a page of https or of this machine may write to the clipboard so.
    const field = document.createElement("textarea");
    field.value = text;
    viewed().append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  notify("Copied.");
}

function step(name) {
  viewed()?.querySelector(`.step.${name}`)?.click();
}

function startSteps() {
  document.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: "newer", ArrowRight: "older" };
    const busy = event.target.closest("input, select, textarea, dialog:not(#viewer)") || event.altKey || event.ctrlKey || event.metaKey;
    if (steps[event.key] && !busy) {
      event.preventDefault();
      step(steps[event.key]);
    }
  });
  let began = null;
  document.addEventListener("touchstart", (event) => {
    const swipes = event.touches.length === 1 && event.target.closest(".stage") && !event.target.closest("input");
    began = swipes ? event.touches[0] : null;
  }, { passive: true });
  document.addEventListener("touchend", (event) => {
    const [across, down] = began ? [event.changedTouches[0].clientX - began.clientX, event.changedTouches[0].clientY - began.clientY] : [0, 0];
    if (Math.abs(across) > SWIPE_PX && Math.abs(across) > 2 * Math.abs(down)) {
      step(across > 0 ? "newer" : "older");
    }
    began = null;
  });
}

async function remove(whenGone) {
  const picture = viewed();
  question.close();
  try {
    await ask(`/pictures/${encodeURIComponent(picture.dataset.viewed)}`, { method: "DELETE" });
  } catch (error) {
    showWorks(error.message);
    return;
  }
  whenGone(picture);
}

/**
 * Starts it all.
 *
 * @param {(picture: object, work: object) => void} whenMade something was made of a picture.
 * @param {(viewed: Element) => void} whenGone the picture that is shown was deleted.
 */
export function startViewed({ whenMade, whenGone }) {
  startCompare();
  startSteps();
  document.addEventListener("click", (event) => {
    const target = (selector) => event.target.closest(selector);
    if (target("button[data-work]")) {
      begin(target("button[data-work]"));
    } else if (target("[data-copy]")) {
      copy(target("[data-copy]").dataset.copy);
    } else if (target("[data-ask-removal]")) {
      question.showModal();
    } else if (target("[data-remove]")) {
      remove(whenGone);
    } else if (target("[data-close]")) {
      target("dialog").close();
    }
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches("form[data-work]")) {
      event.preventDefault();
      begin(event.target);
    }
  });
  document.addEventListener("enlight:made", ({ detail: { picture, work } }) => {
    showWorks();
    whenMade(picture, work);
  });
  document.addEventListener("enlight:not-made", ({ detail: { work, message } }) => {
    showWorks(viewed()?.dataset.viewed === work.source ? message : "");
  });
}
