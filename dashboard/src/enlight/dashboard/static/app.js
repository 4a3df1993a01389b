// What every page does: notices that can be closed, questions before something is lost, times in the reader's own zone.

export const csrfToken = document.body.dataset.csrfToken;

/** Asks this site with the token that it wants; throws an Error with the message for people. */
export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, {
      ...options,
      headers: { Accept: "application/json", "X-CSRF-Token": csrfToken, ...options.headers },
    });
  } catch {
    throw new Error("The page cannot reach its server. Check the connection, then try again.");
  }
  if (answer.status === 401) {
    location.assign("/sign-in");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(body.message || `The server answered ${answer.status}.`), {
      fields: body.error?.details?.fields, // of the form that are wrong, each with a `message`
    });
  }
  return answer;
}

/** Shows a sentence in the corner; one about a problem stays until it is closed. */
export function notify(message, { problem = false } = {}) {
  if ([...document.querySelectorAll("#notices .notice > p")].some((shown) => shown.textContent === message)) {
    return; // what is asked for every few seconds may fail as often
  }
  const notice = document.createElement("div");
  notice.className = `notice ${problem ? "problem" : "good"}`;
  notice.setAttribute("role", problem ? "alert" : "status");
  const text = document.createElement("p");
  text.textContent = message;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet";
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", "Close this notice");
  close.textContent = "×";
  notice.append(text, close);
  document.getElementById("notices").append(notice);
  if (!problem) {
    setTimeout(() => notice.remove(), 6000);
  }
}

function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    const when = new Date(element.dateTime);
    element.title = when.toLocaleString();
  }
}

document.addEventListener("click", (event) => {
  const dismiss = event.target.closest("[data-dismiss]");
  if (dismiss) {
    dismiss.closest(".notice").remove();
  }
});

document.addEventListener("htmx:load", (event) => showTimes(event.target));
document.addEventListener("htmx:sendError", (event) => {
  if (!event.target.matches("[data-live]")) { // live.js says it where the figures are
    notify("The page cannot reach its server. It tries again by itself where something is followed.", { problem: true });
  }
});
showTimes(document);
