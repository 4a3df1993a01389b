// A model's file on its way to the server, with a bar: `<form data-import>`.

import { csrfToken, notify } from "./app.js";

const BYTES_PER_MB = 1e6;

/** Shows the fields that only one kind of file needs, and a name where none was typed. */
function readFile(form) {
  const [file] = form.elements.file.files;
  const extra = form.querySelector("[data-for-safetensors]");
  extra.hidden = extra.disabled = !file?.name.endsWith(".safetensors");
  const name = form.elements.name;
  if (file && !name.value) {
    name.value = file.name.replace(/\.(zip|safetensors)$/, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);
  }
}

function send(form) {
  const [file] = form.elements.file.files;
  const query = new URLSearchParams();
  for (const name of ["name", "base_model", "instance_prompt"]) {
    const field = form.elements[name];
    if (field.value.trim() && !field.matches(":disabled")) {
      query.set(name, field.value.trim());
    }
  }
  const sending = form.querySelector("[data-sending]");
  const bar = sending.querySelector("progress");
  const said = sending.querySelector("[data-said]");
  const problem = form.querySelector(".problem");
  const button = form.querySelector("button.main");
  const request = new XMLHttpRequest(); // fetch cannot say how much was sent
  const fail = (message) => {
    problem.textContent = message;
    problem.hidden = false;
    sending.hidden = true;
    button.disabled = false;
  };
  problem.hidden = true;
  sending.hidden = false;
  button.disabled = true;
  request.upload.addEventListener("progress", (event) => {
    bar.value = event.loaded / file.size;
    said.textContent = event.loaded < file.size
      ? `${Math.round(event.loaded / BYTES_PER_MB)} of ${Math.round(file.size / BYTES_PER_MB)} MB sent`
      : "Sent. It is being checked against its base model.";
  });
  request.addEventListener("error", () => fail("The file did not arrive. Check the connection, then try again."));
  request.addEventListener("load", () => {
    const answer = request.response; // null when it is none of ours
    if (request.status >= 300 || !answer) {
      fail(answer?.message || `The server answered ${request.status}.`);
      return;
    }
    form.closest("dialog").close();
    document.body.dispatchEvent(new Event("changed"));
    notify(answer.message);
  });
  form.closest("dialog").addEventListener("close", () => request.abort(), { once: true });
  request.responseType = "json";
  request.open("POST", `${form.dataset.import}?${query}`);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-CSRF-Token", csrfToken);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(file);
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-import]");
  if (form && event.target.type === "file") {
    readFile(form);
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-import]");
  if (form) {
    event.preventDefault();
    send(form);
  }
});
