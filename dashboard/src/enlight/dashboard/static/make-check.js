// Has the photos looked at while people still pick: a moment after the last change, and never for photos that are no
// longer those on the page.

import { csrfToken } from "./app.js";

const QUIET_MS = 600;
const AGAIN_MS = 6000;
const MAX_BYTES = 60e6;

export class PhotoCheck {
  #photos;
  #fields;
  #answered;
  #refused;
  #timer;
  #running = null;

  /**
   * @param {() => {file: File, checked: Blob}[]} photos that are picked now.
   * @param {() => Record<string, string>} fields that decide what becomes of them.
   * @param {(answer: {advice: string, warnings: {photos: number[], short: string, text: string}[]}) => void} answered
   * @param {(index: number, body: object) => void} refused one photo cannot be used.
   */
  constructor(photos, fields, answered, refused) {
    this.#photos = photos;
    this.#fields = fields;
    this.#answered = answered;
    this.#refused = refused;
  }

  /** What was asked holds no longer; asks again in a moment. */
  renew(delayMs = QUIET_MS) {
    this.stop();
    if (this.#photos().length) {
      this.#timer = setTimeout(() => this.#ask(), delayMs);
    }
  }

  stop() {
    clearTimeout(this.#timer);
    this.#running?.abort();
    this.#running = null;
  }

  async #ask() {
    const photos = this.#photos();
    if (photos.reduce((sum, photo) => sum + photo.checked.size, 0) > MAX_BYTES) {
      this.#answered({ advice: "These photos are too large to be looked at beforehand; start all the same.", warnings: [] });
      return;
    }
    const form = new FormData();
    Object.entries(this.#fields()).forEach(([name, value]) => form.set(name, value));
    photos.forEach(({ file, checked }) => form.append("photos", checked, file.name));
    const running = new AbortController();
    this.#running = running;
    let answer;
    let body;
    try {
      answer = await fetch("/make/photos/check", {
        method: "POST",
        body: form,
        signal: running.signal,
        headers: { Accept: "application/json", "X-CSRF-Token": csrfToken },
      });
      body = await answer.json();
    } catch {
      if (!running.signal.aborted) {
        this.#later();
      }
      return;
    }
    if (running.signal.aborted) {
      return;
    }
    if (answer.ok) {
      this.#answered(body);
    } else if (refusedPhoto(body) !== null) {
      this.#refused(refusedPhoto(body), body);
    } else if (answer.status >= 500 || answer.status === 429) {
      this.#later();
    } else {
      this.#answered({ advice: body.message, warnings: [] });
    }
  }

  #later() {
    this.#answered({ advice: "The photos cannot be looked at beforehand just now; you can start all the same.", warnings: [] });
    this.#timer = setTimeout(() => this.#ask(), AGAIN_MS);
  }
}

/** The place of the photo that an error is about; null: it is about none. */
export function refusedPhoto(body) {
  const found = /^photos\[(\d+)\]/.exec(body?.error?.details?.field ?? body?.error?.details?.fields?.[0]?.field ?? "");
  return found ? Number(found[1]) : null;
}

const REASONS = {
  broken_image: "is damaged",
  unsupported_image: "is not a photo that can be used",
  image_too_large: "has too many pixels",
};

/** Why `name` was left out. */
export const refusal = (name, body) =>
  `${name} ${REASONS[body.error.code] ?? "cannot be used"}, so it was left out.`;
