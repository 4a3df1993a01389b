// The form: suggestions, the choice of a model, problems beside their fields, and values that are kept for next time.

const form = document.getElementById("generation");
const more = document.getElementById("more");
const kept = `enlight.generate.${form.dataset.memory}`;
const KEPT = ["prompt", "num_images", "size", "width", "height", "num_inference_steps", "guidance_scale", "seed", "negative_prompt"];

const fields = () => KEPT.map((name) => form.elements[name]);

function remember() {
  try {
    localStorage.setItem(kept, JSON.stringify(Object.fromEntries(fields().map((field) => [field.name, field.value]))));
  } catch {
    // A browser that keeps nothing: the form is then as it comes.
  }
}

function recall() {
  let values = {};
  try {
    values = JSON.parse(localStorage.getItem(kept)) ?? {};
  } catch {
    return;
  }
  for (const field of fields()) {
    const isChoice = field.tagName === "SELECT" && ![...field.options].some((option) => option.value === values[field.name]);
    if (typeof values[field.name] === "string" && !isChoice) {
      field.value = values[field.name];
    }
  }
  more.open = more.open || [...more.querySelectorAll("input[name]")].some((field) => field.value !== field.defaultValue) ||
    form.elements.size.selectedIndex > 0;
}

function forget() {
  const prompt = form.elements.prompt.value;
  localStorage.removeItem(kept);
  form.reset();
  form.elements.prompt.value = prompt;
  clearProblems();
  showSize();
}

function showSize() {
  document.getElementById("other-size").hidden = form.elements.size.value !== "other";
}

function clearProblems() {
  for (const field of [...fields(), form.elements.model_id]) {
    field.removeAttribute("aria-invalid");
    document.getElementById(`${field.name}-problem`).hidden = true;
  }
  document.getElementById("form-problem").hidden = true;
}

/** Says what is wrong beside each field; `problems` as the API's errors have them. */
export function showProblems(message, problems = []) {
  clearProblems();
  const named = problems.filter((problem) => document.getElementById(`${problem.field}-problem`));
  for (const { field, message: text } of named) {
    const place = document.getElementById(`${field}-problem`);
    place.textContent = text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
    place.hidden = false;
    form.elements[field].setAttribute("aria-invalid", "true");
  }
  if (named.length) {
    const first = form.elements[named[0].field];
    more.open = more.open || more.contains(first);
    showSize();
    first.focus();
  } else {
    const place = document.getElementById("form-problem");
    place.textContent = message;
    place.hidden = false;
  }
}

function problemsHere() {
  const problems = fields()
    .filter((field) => field.validity.badInput)
    .map((field) => ({ field: field.name, message: "This is no number." }));
  if (!form.elements.prompt.value.trim()) {
    problems.unshift({ field: "prompt", message: "Say what the picture should show." });
  }
  return problems;
}

function startModels() {
  const dialog = document.getElementById("models");
  const find = document.getElementById("find-model");
  document.getElementById("choose-model").addEventListener("click", () => dialog.showModal());
  find?.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    let found = 0;
    for (const entry of dialog.querySelectorAll(".models li")) {
      entry.hidden = !entry.querySelector("strong").textContent.toLowerCase().includes(wanted);
      found += entry.hidden ? 0 : 1;
    }
    for (const section of dialog.querySelectorAll("[data-models]")) {
      section.hidden = !section.querySelector("li:not([hidden])");
    }
    document.getElementById("no-model").hidden = found > 0;
  });
  find?.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      dialog.querySelector(".models li:not([hidden]) a")?.click();
    }
  });
}

/** Starts the form; `make(values)` is called with what was sent off. */
export function startForm(make) {
  if (!("again" in form.dataset)) {
    recall();
  }
  showSize();
  startModels();
  form.elements.size.addEventListener("change", showSize);
  document.getElementById("forget").addEventListener("click", forget);
  form.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-prompt]");
    if (chip) {
      form.elements.prompt.value = chip.dataset.prompt;
      form.elements.prompt.focus();
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const problems = problemsHere();
    if (problems.length) {
      showProblems("", problems);
      return;
    }
    clearProblems();
    remember();
    make(new URLSearchParams(new FormData(form)));
  });
}
