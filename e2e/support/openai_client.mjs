// What a user of OpenAI's npm package does with the suite, told as one line of JSON:
// node openai_client.mjs BASE_URL BASE_MODEL PHOTOS.zip PICTURE.png MASK.png

import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const [baseURL, baseModel, photos, picture, mask] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const told = {};

const made = await client.images.generate({
  model: baseModel,
  prompt: "a robot on the beach",
  n: 2,
  size: "64x64",
  seed: 7,
  num_inference_steps: 2,
});
told.generated = made.data.map((each) => each.b64_json);

const edited = await client.images.edit({
  model: baseModel,
  prompt: "a blue sky",
  image: createReadStream(picture),
  mask: createReadStream(mask),
  size: "64x64",
  seed: 8,
});
told.edited = edited.data[0].b64_json;

const uploaded = await client.files.create({ file: createReadStream(photos), purpose: "fine-tune" });
told.file = { filename: uploaded.filename, purpose: uploaded.purpose };

let job = await client.fineTuning.jobs.create({
  training_file: uploaded.id,
  model: baseModel,
  suffix: "npm-robot",
  seed: 1,
  metadata: { instance_prompt: "a sks robot", max_training_steps: "10" },
});
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await sleep(200);
  job = await client.fineTuning.jobs.retrieve(job.id);
}
told.job = { status: job.status, model: job.fine_tuned_model, error: job.error };

told.events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 2 })) {
  told.events.unshift(event.message);
}
told.models = [];
for await (const model of client.models.list()) {
  told.models.push(model.id);
}
told.trained = (
  await client.images.generate({ model: job.fine_tuned_model, prompt: "a sks robot", size: "64x64" })
).data[0].b64_json;

told.deleted = (await client.models.delete(job.fine_tuned_model)).deleted;
try {
  await client.images.generate({ model: job.fine_tuned_model, prompt: "a sks robot" });
} catch (error) {
  told.refusal = { kind: error.constructor.name, status: error.status, code: error.code };
}
console.log(JSON.stringify(told));
