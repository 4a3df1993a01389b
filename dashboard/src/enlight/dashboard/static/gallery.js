// The gallery: what is shown, places for pictures that are being made, and pictures that come and go.

import { ask } from "./app.js";

const holder = () => document.getElementById("pictures");
const list = () => holder().querySelector(".gallery");
const filter = document.getElementById("filter");

function address(path) {
  const given = [...new FormData(filter)].filter(([, value]) => value);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

async function fragment(path) {
  const template = document.createElement("template");
  template.innerHTML = await (await ask(address(path))).text();
  return template.content.firstElementChild;
}

function put(fresh, old) {
  old.replaceWith(fresh);
  window.htmx.process(fresh);
}

/** Shows the gallery as it is now. Throws an Error with the message for people. */
export async function refresh() {
  put(await fragment("/generate/gallery"), holder());
}

/** The same, as soon as the server is there. */
export async function refreshWhenPossible(everyMs = 2000) {
  for (;;) {
    try {
      return await refresh();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }
}

/** Makes places for pictures in front of all others. */
export function addPlaces(count) {
  holder().querySelector(".empty")?.remove();
  const places = Array.from({ length: count }, () => {
    const place = document.createElement("li");
    place.className = "picture waiting";
    place.setAttribute("aria-label", "A picture that is being made");
    return place;
  });
  list().prepend(...places);
  return places;
}

/** Puts a picture where its place is. */
export async function fill(place, id) {
  put(await fragment(`/pictures/${encodeURIComponent(id)}/tile`), place);
}

/** Puts a picture in front of all others. */
export async function add(id) {
  await fill(addPlaces(1)[0], id);
}

/** Takes a picture away. */
export function drop(id) {
  list().querySelector(`[data-picture="${CSS.escape(id)}"]`)?.remove();
}

/** Puts the keyboard on a picture. */
export function focusOn(id) {
  list().querySelector(`[data-picture="${CSS.escape(id)}"] a`)?.focus();
}

/** Has the choice of model and kind followed, and kept in the page's address. */
export function startFilter(problem) {
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("change", async () => {
    const here = new URL(location.href);
    for (const [name, value] of new FormData(filter)) {
      if (value) {
        here.searchParams.set(name, value);
      } else {
        here.searchParams.delete(name);
      }
    }
    history.replaceState(history.state, "", here);
    await refresh().catch((error) => problem(error.message));
  });
}
