// Parts of a page that are asked for again every few seconds while somebody looks at them: `data-live`, parts/live.html.

import "./patch.js";

const PERIOD_MS = 4000;

const parts = () => [...document.querySelectorAll("[data-live]")];
const ask = (part) => window.htmx.trigger(part, "refresh");

function sayAway(part, reason) {
  const notice = document.querySelector(`[data-away-of="${part.id}"]`);
  part.classList.toggle("old", Boolean(reason));
  notice.hidden = !reason;
  const text = notice.querySelector("[data-reason]");
  if (reason && text.textContent !== reason) {
    text.textContent = reason; // only when it is another one: it is read aloud
  }
}

/** What the server's page about an error says. */
function reasonIn(html) {
  return new DOMParser().parseFromString(html, "text/html").querySelector("p")?.textContent.trim();
}

setInterval(() => {
  if (document.visibilityState === "visible") {
    parts().forEach(ask);
  }
}, PERIOD_MS);

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") {
    parts().forEach(ask);
  }
});

document.body.addEventListener("changed", () => parts().forEach(ask));

// A failure is said where the figures are, once, and not as a notice every few seconds.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.requestConfig.elt;
  if (part.matches("[data-live]")) {
    const failed = event.detail.xhr.status >= 400;
    event.detail.shouldSwap = !failed;
    sayAway(part, failed ? reasonIn(event.detail.xhr.responseText) || "The server had a problem." : "");
  }
});

document.body.addEventListener("htmx:sendError", (event) => {
  if (event.target.matches("[data-live]")) {
    sayAway(event.target, "This page cannot reach its server.");
  }
});
