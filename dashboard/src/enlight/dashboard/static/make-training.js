// Follows one training. Each event says that there is news; the server draws it, and what is new is put in its place.

import { ask, notify } from "./app.js";
import { patchChildren } from "./patch.js";

const root = document.getElementById("training");
const away = document.getElementById("away");
const dialog = document.getElementById("cancel-dialog");
const { address, name } = root.dataset;
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const BETWEEN_MS = 700;
const AGAIN_MS = 3000;
const TOLD_KEY = `tell ${address}`;

const now = () => document.getElementById("now");
const hasEnded = () => ENDED.has(now().dataset.state);

/** Takes over what differs, so that what is read or focused stays as it is. */
function show(fresh) {
  const before = now().dataset.state;
  dress(fresh);
  Object.assign(now().dataset, fresh.dataset);
  patchChildren(now(), fresh);
  document.title = `${now().dataset.title} · Enlight`;
  if (before !== now().dataset.state && hasEnded()) {
    ended();
  }
}

let due = null;
let again = null;
let shownAtMs = 0;

/** Shows the news, but not more often than people can read. */
function refresh() {
  due ??= setTimeout(async () => {
    due = null;
    clearTimeout(again);
    shownAtMs = Date.now();
    try {
      const answer = await ask(`${address}/now`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("now");
      show(fresh);
      back();
    } catch (error) {
      lost(error.message);
      again = setTimeout(refresh, AGAIN_MS);
    }
  }, Math.max(0, shownAtMs + BETWEEN_MS - Date.now()));
}

function lost(reason) {
  away.hidden = false;
  away.textContent = `${reason} This page tries again by itself.`;
}

function back() {
  away.hidden = true;
}

let events = null;

function follow() {
  events = new EventSource(`${address}/events`);
  for (const kind of ["state", "progress", "sample"]) {
    events.addEventListener(kind, refresh);
  }
  events.addEventListener("open", refresh);
  events.addEventListener("error", () => {
    if (hasEnded()) {
      events.close();
    } else if (events.readyState === EventSource.CLOSED) {
      // Refused, and the browser gives up: we do not. A new stream tells where the training stands.
      setTimeout(follow, AGAIN_MS);
      refresh();
    } else {
      lost("The connection to the server was lost; the training goes on.");
    }
  });
}

function ended() {
  events?.close();
  dialog.close();
  const { state, title } = now().dataset;
  if (state !== "cancelled") {
    notify(title, { problem: state === "failed" });
  }
  if (sessionStorage.getItem(TOLD_KEY)) {
    sessionStorage.removeItem(TOLD_KEY);
    try {
      new Notification(title);
    } catch {
      // Android's browsers show none for a page; the title says it, too.
    }
  }
}

/** Buttons that need scripts. */
function dress(part) {
  const tell = part.querySelector("#tell-me");
  if (tell && "Notification" in window && isSecureContext && Notification.permission !== "denied") {
    tell.hidden = false;
    if (sessionStorage.getItem(TOLD_KEY)) {
      tell.disabled = true;
      tell.textContent = "You will be told";
    }
  }
  const cancel = part.querySelector("#cancel");
  if (cancel) {
    cancel.hidden = false;
  }
}

root.addEventListener("click", async (event) => {
  if (event.target.closest("#cancel")) {
    dialog.showModal();
  } else if (event.target.closest("#tell-me") && (await Notification.requestPermission()) === "granted") {
    sessionStorage.setItem(TOLD_KEY, name);
    dress(now());
  }
});
dialog.addEventListener("click", (event) => {
  if (event.target.closest("[data-close]") || event.target === dialog) {
    dialog.close();
  }
});

dress(now());
if (!hasEnded()) {
  follow();
}
