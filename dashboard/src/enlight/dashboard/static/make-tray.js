// The photos that were picked: shown, moved, removed. Its events: "change" when there are others or another order.

import { readPhoto } from "./make-reading.js";

const KEYS = { ArrowLeft: "earlier", ArrowUp: "earlier", ArrowRight: "later", ArrowDown: "later", Delete: "remove" };

export class Tray extends EventTarget {
  /** @type {{file: File, checked: Blob, tile: HTMLElement}[]} */
  photos = [];
  #list;
  #template;
  #limits;
  #say;
  #dragged = null;
  #reading = Promise.resolve();

  /**
   * @param {HTMLElement} list holds the tiles.
   * @param {HTMLTemplateElement} template of a tile.
   * @param {{photos: number, bytes: number}} limits of a training.
   * @param {(sentence: string) => void} say tells those who do not see what was done.
   */
  constructor(list, template, limits, say) {
    super();
    this.#list = list;
    this.#template = template;
    this.#limits = limits;
    this.#say = say;
    list.addEventListener("click", (event) => this.#act(event.target.closest("[data-act]")?.dataset.act, event));
    list.addEventListener("keydown", (event) => this.#act(KEYS[event.key], event));
    list.addEventListener("dragstart", (event) => this.#dragStart(event));
    list.addEventListener("dragover", (event) => this.#dragOver(event));
    list.addEventListener("dragend", () => this.#dragEnd());
  }

  /** Adds files one after the other. Gives a sentence for each that was left out. */
  add(files) {
    const added = this.#reading.then(() => this.#addAll([...files]));
    this.#reading = added.catch(() => {});
    return added;
  }

  get bytes() {
    return this.photos.reduce((sum, photo) => sum + photo.file.size, 0);
  }

  /** Takes out the photo at a place. */
  remove(index) {
    const [photo] = this.photos.splice(index, 1);
    if (photo.address) {
      URL.revokeObjectURL(photo.address);
    }
    photo.tile.remove();
    this.#changed();
  }

  clear() {
    while (this.photos.length) {
      this.remove(0);
    }
  }

  /** Marks the photos that warnings are about: `{photos: [places], short}`. */
  mark(warnings) {
    for (const { tile } of this.photos) {
      tile.classList.remove("doubtful");
      tile.querySelector(".note").hidden = true;
    }
    for (const { photos, short } of warnings) {
      for (const index of photos) {
        const note = this.photos[index].tile.querySelector(".note");
        this.photos[index].tile.classList.add("doubtful");
        note.textContent = note.hidden ? short : `${note.textContent}, ${short.toLowerCase()}`;
        note.hidden = false;
      }
    }
  }

  async #addAll(files) {
    const leftOut = [];
    let tooMany = 0;
    for (const file of files) {
      if (this.photos.length >= this.#limits.photos) {
        tooMany += 1;
      } else if (this.photos.some((photo) => isSame(photo.file, file))) {
        leftOut.push(`${file.name} is there already.`);
      } else if (this.bytes + file.size > this.#limits.bytes) {
        leftOut.push(`${file.name} is too large: all photos together may have ${megabytes(this.#limits.bytes)}.`);
      } else {
        try {
          this.#show(file, await readPhoto(file));
        } catch (error) {
          leftOut.push(error.message);
        }
      }
    }
    if (tooMany) {
      leftOut.push(`${this.#limits.photos} photos are the most: ${tooMany === 1 ? "one was" : `${tooMany} were`} left out.`);
    }
    return leftOut;
  }

  #show(file, { thumbnail, checked }) {
    const tile = this.#template.content.firstElementChild.cloneNode(true);
    const photo = { file, checked, tile, address: thumbnail && URL.createObjectURL(thumbnail) };
    const image = tile.querySelector("img");
    if (thumbnail) {
      image.src = photo.address;
    } else {
      image.remove();
      tile.querySelector(".no-picture").hidden = false;
      tile.querySelector(".file-name").textContent = file.name;
    }
    tile.title = file.name;
    this.photos.push(photo);
    this.#list.append(tile);
    this.#changed();
  }

  #changed() {
    this.photos.forEach(({ file, tile }, index) => {
      const name = `photo ${index + 1}`;
      tile.querySelector(".number").textContent = index + 1;
      const image = tile.querySelector("img");
      if (image) {
        image.alt = `Photo ${index + 1}: ${file.name}`;
      }
      tile.querySelector('[data-act="earlier"]').setAttribute("aria-label", `Move ${name} earlier`);
      tile.querySelector('[data-act="later"]').setAttribute("aria-label", `Move ${name} later`);
      tile.querySelector('[data-act="remove"]').setAttribute("aria-label", `Remove ${name}`);
    });
    this.dispatchEvent(new Event("change"));
  }

  #act(act, event) {
    const tile = event.target.closest(".photo");
    if (!act || !tile) {
      return;
    }
    event.preventDefault();
    const index = this.photos.findIndex((photo) => photo.tile === tile);
    if (act === "remove") {
      this.remove(index);
      this.#say(`Photo ${index + 1} was removed.`);
      const next = this.photos[Math.min(index, this.photos.length - 1)];
      next?.tile.querySelector('[data-act="remove"]').focus();
      return;
    }
    const to = index + (act === "earlier" ? -1 : 1);
    if (to >= 0 && to < this.photos.length) {
      const focused = document.activeElement;
      this.#move(index, to);
      focused.focus();
      this.#say(`Photo ${index + 1} is now photo ${to + 1}.`);
    }
  }

  #move(from, to) {
    const [photo] = this.photos.splice(from, 1);
    this.photos.splice(to, 0, photo);
    const after = this.photos[to + 1]?.tile ?? null;
    this.#list.insertBefore(photo.tile, after);
    this.#changed();
  }

  #dragStart(event) {
    this.#dragged = event.target.closest(".photo");
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", ""); // without data Firefox drags nothing
    this.#dragged.classList.add("dragged");
  }

  #dragOver(event) {
    const over = event.target.closest(".photo");
    if (!this.#dragged) {
      return;
    }
    event.preventDefault();
    if (over && over !== this.#dragged) {
      const place = (tile) => this.photos.findIndex((photo) => photo.tile === tile);
      this.#move(place(this.#dragged), place(over));
    }
  }

  #dragEnd() {
    this.#dragged?.classList.remove("dragged");
    this.#dragged = null;
  }
}

const isSame = (one, other) =>
  one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

export const megabytes = (bytes) => `${Math.floor(bytes / 1e6)} MB`;
