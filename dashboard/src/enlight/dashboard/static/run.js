// The page Run: what it follows, its dialog, and an imported model's way to the server.

import { notify } from "./app.js";
import "./live.js";
import "./model-import.js";

const dialog = document.getElementById("dialog");
const content = document.getElementById("dialog-content");
const notices = document.getElementById("notices");

document.body.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target !== content) {
    return;
  }
  notices.querySelectorAll(".problem").forEach((notice) => notice.remove()); // of an earlier try
  if (!dialog.open) {
    dialog.showModal();
    dialog.append(notices); // what lies beside an open dialog can neither be seen nor reached
  }
});

dialog.addEventListener("close", () => {
  document.body.append(notices);
  content.replaceChildren(); // a new key, for one, is not left behind
});

document.body.addEventListener("done", (event) => {
  dialog.close();
  notify(event.detail.message);
});

document.addEventListener("click", async (event) => {
  if (event.target.closest("[data-close]")) {
    dialog.close();
  }
  const copier = event.target.closest("[data-copy]");
  if (copier) {
    const field = document.getElementById(copier.dataset.copy);
    field.select();
    await navigator.clipboard.writeText(field.value);
    copier.textContent = "Copied";
  }
});
