// Open folders in the hub's layout with transformers.js, and write its vectors as JSON:
// `node with_transformers_js.mjs DIRECTORY`. The default dtype of Node is float32; q8 is int8.
import { readFileSync, writeFileSync } from "node:fs";
import { env, pipeline } from "@huggingface/transformers";

const root = process.argv[2];
env.allowRemoteModels = false;
env.localModelPath = `${root}/`;
const { texts } = JSON.parse(readFileSync(`${root}/expected.json`, "utf8"));

const answers = {};
for (const [name, pooling] of [["embedder", "cls"], ["mean", "mean"]]) {
  for (const options of [{}, { dtype: "q8" }]) {
    const embed = await pipeline("feature-extraction", name, options);
    const vectors = await embed(texts, { pooling, normalize: true });
    answers[`${name} ${options.dtype ?? "fp32"}`] = vectors.tolist();
  }
}
writeFileSync(`${root}/transformers_js.json`, JSON.stringify(answers));
