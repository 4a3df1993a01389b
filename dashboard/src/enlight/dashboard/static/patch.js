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

/** Gives `parent` the children of `source`, which is used up. Children with an id keep their element when others come or go. */
export function patchChildren(parent, source) {
  const coming = new Set([...source.children].map((child) => child.id).filter(Boolean));
  let here = parent.firstChild;
  const dropHere = () => {
    const gone = here;
    here = here.nextSibling;
    gone.remove();
  };
  for (const fresh of [...source.childNodes]) {
    while (here?.id && !coming.has(here.id)) {
      dropHere();
    }
    if (here && alike(here, fresh)) {
      if (fresh.nodeType === Node.ELEMENT_NODE) {
        patchElement(here, fresh);
      } else if (here.data !== fresh.data) {
        here.data = fresh.data;
      }
      here = here.nextSibling;
    } else {
      parent.insertBefore(fresh, here);
    }
  }
  while (here) {
    dropHere();
  }
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
