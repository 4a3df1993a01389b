// Before and after: a handle that is a range input, so that mouse, finger and keyboard move it.

const parts = (root) => root.querySelectorAll("[data-compared], .before");

/** Shows both, or the picture alone. */
export function compare(root, on) {
  const button = root.querySelector("[data-compare]");
  if (!button) {
    return;
  }
  button.setAttribute("aria-pressed", String(on));
  for (const part of parts(root)) {
    part.hidden = !on;
  }
  move(root);
}

function move(root) {
  const handle = root.querySelector(".split");
  root.querySelector(".show").style.setProperty("--split", `${handle.value}%`);
  handle.setAttribute("aria-valuetext", `${handle.value} percent before`);
}

/** Follows the handle and the button, for pictures that are shown later, too. */
export function startCompare() {
  document.addEventListener("input", (event) => {
    if (event.target.matches(".split")) {
      move(event.target.closest(".viewed"));
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-compare]");
    if (button) {
      compare(button.closest(".viewed"), button.getAttribute("aria-pressed") !== "true");
    }
  });
}
