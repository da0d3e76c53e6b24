// Open folders in the hub's layout with transformers.js and with the ONNX Runtime of browsers, and
// write their vectors as JSON: `node with_transformers_js.mjs DIRECTORY`. The default dtype of
// transformers.js in Node is float32; q8 is int8.
import { readFileSync, writeFileSync } from "node:fs";
import { AutoTokenizer, env, pipeline } from "@huggingface/transformers";
import * as ort from "onnxruntime-web";

const root = process.argv[2];
env.allowRemoteModels = false;
env.localModelPath = `${root}/`;
ort.env.wasm.numThreads = 1;
const { texts } = JSON.parse(readFileSync(`${root}/expected.json`, "utf8"));
const files = { float32: "model.onnx", int8: "model_quantized.onnx" };
const options = { float32: {}, int8: { dtype: "q8" } };

async function pipelineVectors(name, pooling, dtype) {
  const embed = await pipeline("feature-extraction", name, options[dtype]);
  return (await embed(texts, { pooling, normalize: true })).tolist();
}

async function webVectors(name, dtype) {
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const graph = readFileSync(`${root}/${name}/onnx/${files[dtype]}`);
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  const vectors = [];
  for (const text of texts) {
    const inputs = {};
    for (const [input, { data, dims }] of Object.entries(await tokenizer(text))) {
      inputs[input] = new ort.Tensor("int64", data, dims);
    }
    vectors.push(Array.from((await session.run(inputs)).sentence_embedding.data));
  }
  return vectors;
}

const answers = [];
for (const dtype of ["float32", "int8"]) {
  for (const [name, pooling] of [["embedder", "cls"], ["mean", "mean"]]) {
    answers.push(["transformers.js", name, dtype, await pipelineVectors(name, pooling, dtype)]);
  }
  answers.push(["onnxruntime-web", "mean", dtype, await webVectors("mean", dtype)]);
}
writeFileSync(`${root}/transformers_js.json`, JSON.stringify(answers));
