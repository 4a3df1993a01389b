// What a picked file is, before anything is sent: told by its first bytes, drawn small once.

const THUMBNAIL_PX = 320;
const CHECKED_SHORT_SIDE_PX = 1536; // larger than any training's resolution: reduced copies are judged alike
const SENT_AS_IT_IS_BYTES = 1_500_000;
const JPEG_QUALITY = 0.92;

const ascii = (bytes, start, end) => String.fromCharCode(...bytes.subarray(start, end));

/** "jpeg", "png", "webp", "heic", or null. */
async function formatOf(file) {
  const bytes = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return "jpeg";
  if (ascii(bytes, 1, 4) === "PNG") return "png";
  if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 12) === "WEBP") return "webp";
  if (ascii(bytes, 4, 8) === "ftyp" && /^(hei[cxms]|hev[cxms]|mif1|msf1)$/.test(ascii(bytes, 8, 12))) return "heic";
  return null;
}

async function drawn(bitmap, scale, quality) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

/**
 * Reads a file that somebody picked.
 * @returns {Promise<{thumbnail: Blob|null, checked: Blob}>} what to show (null: this browser cannot show it) and what
 *     to have checked, which is smaller than a large photo.
 * @throws Error with a sentence for people: why it cannot be used.
 */
export async function readPhoto(file) {
  if (file.size === 0) {
    throw new Error(`${file.name} is empty.`);
  }
  let format;
  try {
    format = await formatOf(file);
  } catch {
    throw new Error(`${file.name} cannot be read from this device.`);
  }
  if (format === null) {
    throw new Error(`${file.name} is not a photo that can be used: take JPEG, PNG, WebP or HEIC.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    if (format === "heic") {
      return { thumbnail: null, checked: file };
    }
    throw new Error(`${file.name} is damaged and cannot be opened.`);
  }
  const shortSide = Math.min(bitmap.width, bitmap.height);
  const thumbnail = await drawn(bitmap, Math.min(1, THUMBNAIL_PX / shortSide), 0.85);
  const reduces = file.size > SENT_AS_IT_IS_BYTES && shortSide > CHECKED_SHORT_SIDE_PX;
  const checked = reduces ? await drawn(bitmap, CHECKED_SHORT_SIDE_PX / shortSide, JPEG_QUALITY) : file;
  bitmap.close();
  return { thumbnail, checked };
}
