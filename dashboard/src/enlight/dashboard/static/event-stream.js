// Server-sent events of an answer to a POST, which EventSource cannot follow.

/** Gives `{ name, data }` for each event as it comes; ends with the stream. */
export async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const field = (name) => part.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1];
      if (field("data")) {
        yield { name: field("event") ?? "message", data: JSON.parse(field("data")) };
      }
    }
  }
}
