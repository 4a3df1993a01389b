// `hx-swap="patch"`: makes what is there like what came, and leaves what is alike as it is. So focus, scrolled places,
// opened details and selected text stay, and only what changed is drawn again.

function alike(here, fresh) {
  return here.nodeType === fresh.nodeType && here.nodeName === fresh.nodeName && (here.id || "") === (fresh.id || "");
}

/** What the reader or a script changed since the server wrote it. */
function isReaders(element, name) {
  return (element.nodeName === "DETAILS" && name === "open") || (element.nodeName === "TIME" && name === "title");
}

function patchElement(here, fresh) {
  if (here.nodeName === "TIME" && here.getAttribute("datetime") !== fresh.getAttribute("datetime")) {
    here.removeAttribute("title");
  }
  for (const { name } of [...here.attributes]) {
    if (!fresh.hasAttribute(name) && !isReaders(here, name)) {
      here.removeAttribute(name);
    }
  }
  for (const { name, value } of fresh.attributes) {
    if (here.getAttribute(name) !== value) {
      here.setAttribute(name, value);
    }
  }
  patchChildren(here, fresh);
}

/** The child from `here` on that becomes `fresh`; null: there is none, or one that stays is before it. */
function counterpart(here, fresh, coming) {
  if (here && fresh.nodeType !== Node.ELEMENT_NODE) {
    return alike(here, fresh) ? here : null;
  }
  for (let child = here; child; child = child.nextSibling) {
    if (alike(child, fresh)) {
      return child;
    }
    if (coming.has(child.id)) {
      return null;
    }
  }
  return null;
}

/** Gives `parent` the children of `source`, which is used up. One with an id keeps its element when others come or go. */
export function patchChildren(parent, source) {
  const coming = new Set([...source.children].map((child) => child.id).filter(Boolean));
  let here = parent.firstChild;
  const dropUntil = (end) => {
    while (here !== end) {
      const gone = here;
      here = here.nextSibling;
      gone.remove();
    }
  };
  for (const fresh of [...source.childNodes]) {
    const same = counterpart(here, fresh, coming);
    if (!same) {
      parent.insertBefore(fresh, here);
      continue;
    }
    dropUntil(same);
    if (fresh.nodeType === Node.ELEMENT_NODE) {
      patchElement(same, fresh);
    } else if (same.data !== fresh.data) {
      same.data = fresh.data;
    }
    here = same.nextSibling;
  }
  dropUntil(null);
}

window.htmx.defineExtension("patch", {
  isInlineSwap: () => false,
  handleSwap: (swapStyle, target, fragment) => {
    if (swapStyle !== "patch") {
      return false;
    }
    patchChildren(target, fragment);
    return [target];
  },
});
