// What was picked and typed, kept in this browser until it is started: a phone that takes a photo may throw the page away.

const NAME = "enlight-draft";
const KEPT_MS = 24 * 3600 * 1000;

/** One person's draft. Where the browser keeps nothing (a private window), there is none. */
export class Draft {
  #owner;
  #store = null;

  constructor(owner) {
    this.#owner = owner;
  }

  /** @returns {Promise<{files: File[], fields: object} | null>} */
  async load() {
    try {
      this.#store = await opened();
      const drafts = await asked(this.#objects("readonly").getAll());
      for (const draft of drafts) {
        // Nobody finds photos of somebody else, or of long ago.
        if (draft.owner !== this.#owner || Date.now() - draft.savedAtMs > KEPT_MS) {
          await asked(this.#objects("readwrite").delete(draft.owner));
        }
      }
      return (await asked(this.#objects("readonly").get(this.#owner))) ?? null;
    } catch {
      return null;
    }
  }

  async save(files, fields) {
    await this.#change((objects) => objects.put({ owner: this.#owner, savedAtMs: Date.now(), files, fields }));
  }

  async forget() {
    await this.#change((objects) => objects.delete(this.#owner));
  }

  async #change(act) {
    try {
      if (this.#store) {
        await asked(act(this.#objects("readwrite")));
      }
    } catch {
      // No room, or not allowed: the page works without.
    }
  }

  #objects(mode) {
    return this.#store.transaction(NAME, mode).objectStore(NAME);
  }
}

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });

function opened() {
  const request = indexedDB.open(NAME, 1);
  request.addEventListener("upgradeneeded", () => request.result.createObjectStore(NAME, { keyPath: "owner" }));
  return asked(request);
}
