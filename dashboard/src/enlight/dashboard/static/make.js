// The start page: photos into the tray, looked at, sent; kept as a draft meanwhile.

import { csrfToken } from "./app.js";
import { PhotoCheck, refusal, refusedPhoto } from "./make-check.js";
import { Draft } from "./make-draft.js";
import { Tray, megabytes } from "./make-tray.js";
import { send } from "./make-upload.js";

const form = document.getElementById("start");
const picker = document.getElementById("photos");
const drop = document.getElementById("drop");
const list = document.getElementById("tray");
const button = document.getElementById("start-button");
const stopButton = document.getElementById("stop-sending");
const DRAFT_QUIET_MS = 400;
const NOT_IN_DRAFT = new Set(["csrf_token", "start_key", "photos"]);

const byId = (id) => document.getElementById(id);
const say = (sentence) => (byId("said").textContent = sentence);
const limits = { photos: Number(form.dataset.maxPhotos), bytes: Number(form.dataset.maxBytes) };

const tray = new Tray(list, byId("photo-template"), limits, say);
const draft = new Draft(form.dataset.owner);
const check = new PhotoCheck(() => tray.photos, checkedFields, showCheck, leaveOut);
let sending = null;

/** Sent again after a lost connection, the same form starts nothing new; a changed one does. */
function newStartKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  form.elements.start_key.value = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function checkedFields() {
  const baseModel = form.elements.base_model?.value;
  return baseModel ? { base_model: baseModel } : {};
}

function showSentences(place, sentences, className) {
  place.replaceChildren(
    ...sentences.map((sentence) => {
      const line = document.createElement("p");
      line.className = className;
      line.textContent = sentence;
      return line;
    }),
  );
}

function showCheck({ advice, warnings }) {
  byId("advice").textContent = warnings.length ? `${advice} Look at those that are marked.` : advice;
  tray.mark(warnings);
  const items = warnings.map(({ text }) => {
    const item = document.createElement("li");
    item.className = "warning";
    item.textContent = text;
    return item;
  });
  byId("warnings").replaceChildren(...items);
  byId("warnings").hidden = !items.length;
}

function leaveOut(index, body) {
  showSentences(byId("left-out"), [refusal(tray.photos[index].file.name, body)], "problem");
  tray.remove(index);
}

async function add(files) {
  byId("advice").textContent = "Opening the photos …";
  const leftOut = await tray.add(files);
  showSentences(byId("left-out"), leftOut, "problem");
  if (!tray.photos.length) {
    byId("advice").textContent = "";
  }
}

function saveDraft() {
  clearTimeout(saveDraft.timer);
  saveDraft.timer = setTimeout(() => {
    const fields = [...new FormData(form)].filter(([name]) => !NOT_IN_DRAFT.has(name));
    draft.save(tray.photos.map((photo) => photo.file), Object.fromEntries(fields));
  }, DRAFT_QUIET_MS);
}

function changed() {
  newStartKey();
  saveDraft();
}

tray.addEventListener("change", () => {
  const count = tray.photos.length;
  list.hidden = byId("tray-help").hidden = count === 0;
  picker.required = count === 0;
  drop.classList.toggle("filled", count > 0);
  showCheck({ advice: count ? `${count} photo${count > 1 ? "s" : ""}, ${megabytes(tray.bytes + 5e5)}. Looking at them …` : "", warnings: [] });
  check.renew();
  changed();
});

picker.addEventListener("change", async () => {
  const files = [...picker.files];
  picker.value = ""; // so that the same file can be picked again
  await add(files);
});

// Anywhere on the page: a file that misses the field would be opened by the browser in the page's place.
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (event.dataTransfer.types.includes("Files")) {
      event.preventDefault();
      drop.classList.add("over");
    }
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) {
    drop.classList.remove("over");
  }
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) {
    add(event.dataTransfer.files);
  }
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) {
    add(event.clipboardData.files);
  }
});

form.addEventListener("input", (event) => {
  if (event.target !== picker) {
    event.target.closest(".field")?.querySelector(".field-problem")?.remove();
    changed();
  }
});
form.addEventListener("change", (event) => {
  if (event.target.name === "base_model") {
    check.renew();
  }
});

function showSending(share) {
  byId("sending").hidden = false;
  byId("sent").value = share;
  byId("sending-line").textContent =
    share < 1 ? `Sending the photos: ${Math.floor(share * 100)} %` : "The photos are there. Starting …";
}

function problem(sentence) {
  showSentences(byId("start-problem"), [sentence], "problem");
}

/** Puts what the API says about a field beside the field. False: it is none of the page's. */
function showFieldProblem({ field, message }) {
  const input = form.elements.namedItem(field);
  const place = input instanceof HTMLElement ? input.closest(".field") : null;
  if (!place) {
    return false;
  }
  place.querySelector(".field-problem")?.remove();
  const line = document.createElement("p");
  line.className = "field-problem bad-text";
  line.setAttribute("role", "alert");
  line.textContent = `This ${message}.`.replace(/^This (give|say|load|pick) /, (_, verb) => `${verb[0].toUpperCase()}${verb.slice(1)} `);
  place.append(line);
  input.closest("details")?.setAttribute("open", "");
  input.focus();
  return true;
}

function refused(status, body) {
  const place = refusedPhoto(body);
  if (place !== null && tray.photos[place]) {
    leaveOut(place, body);
    problem("One photo could not be used and was left out. Start again without it.");
  } else if (status === 401) {
    location.assign("/sign-in?next=/make");
  } else if (status === 413) {
    problem("The photos are too large together. Remove some, or take smaller ones.");
  } else if (!(body.error?.details?.fields ?? []).map(showFieldProblem).some(Boolean)) {
    problem(body.message || `The server answered ${status}. Try again.`);
  }
}

async function start() {
  const data = new FormData(form);
  data.delete("photos");
  tray.photos.forEach(({ file }) => data.append("photos", file, file.name));
  check.stop();
  showSentences(byId("start-problem"), [], "");
  sending = new AbortController();
  button.disabled = true;
  stopButton.hidden = false;
  showSending(0);
  try {
    const headers = { Accept: "application/json", "X-CSRF-Token": csrfToken };
    const { status, body } = await send("/make", data, headers, showSending, sending.signal);
    if (status === 202) {
      clearTimeout(saveDraft.timer);
      await draft.forget();
      sending = null;
      location.assign(body.address);
      return;
    }
    refused(status, body);
  } catch (error) {
    if (error.message !== "stopped") {
      problem("The connection was lost. Nothing you chose is lost: send it again, it is started once only.");
    }
  }
  sending = null;
  button.disabled = false;
  button.textContent = "Send again";
  stopButton.hidden = true;
  byId("sending").hidden = true;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!sending) {
    start();
  }
});
stopButton.addEventListener("click", () => sending?.abort());
addEventListener("beforeunload", (event) => {
  if (sending) {
    event.preventDefault();
  }
});

/** Whoever comes back finds what was picked and typed. */
async function restore() {
  const kept = await draft.load();
  if (!kept) {
    return;
  }
  for (const [name, value] of Object.entries(kept.fields)) {
    const field = form.elements.namedItem(name);
    if (field instanceof RadioNodeList) {
      field.value = value;
    } else if (field && field.type !== "checkbox") {
      field.value = value;
    }
  }
  form.elements.samples.checked = "samples" in kept.fields;
  const base = form.elements.base_model;
  if (base && !base.selectedOptions[0]?.defaultSelected) {
    base.dispatchEvent(new Event("change", { bubbles: true })); // brings the presets of this one
  }
  for (const field of form.querySelectorAll("[hx-trigger*=restored]")) {
    field.dispatchEvent(new Event("restored"));
  }
  if (kept.files.length) {
    await add(kept.files);
  }
}

document.documentElement.classList.add("scripted");
picker.classList.add("visually-hidden");
newStartKey();
restore();
