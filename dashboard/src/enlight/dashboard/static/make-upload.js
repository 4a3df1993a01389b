// Sends a form with photos, and tells how far it is: fetch cannot, XMLHttpRequest can.

/**
 * @param {string} address
 * @param {FormData} form
 * @param {Record<string, string>} headers
 * @param {(share: number) => void} progress
 * @param {AbortSignal} signal
 * @returns {Promise<{status: number, body: object}>}
 * @throws Error the connection was lost, or `signal` ended it.
 */
export function send(address, form, headers, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    Object.entries(headers).forEach(([name, value]) => request.setRequestHeader(name, value));
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) {
        progress(event.loaded / event.total);
      }
    });
    request.addEventListener("load", () => resolve({ status: request.status, body: parsed(request.responseText) }));
    request.addEventListener("error", () => reject(new Error("lost")));
    request.addEventListener("abort", () => reject(new Error("stopped")));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
