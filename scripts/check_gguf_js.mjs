// Reads GGUF files with @huggingface/gguf, by which the Hub shows what is in a model, and compares keys and tensors with `kquant inspect --json`.
//
//     npm install --prefix DIR @huggingface/gguf@0.4.6
//     node scripts/check_gguf_js.mjs DIR target/release/kquant FILE...
//
// Needs Node 20. Ends with `N passed, M failed`; exit code 1 if a file differs.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";

const [packages, kquant, ...files] = process.argv.slice(2);
if (!files.length) throw new Error("usage: check_gguf_js.mjs PACKAGES KQUANT FILE...");
const { gguf, GGMLQuantizationType } = createRequire(resolve(packages, "index.js"))("@huggingface/gguf");

// What the file's head counts, which is no key of the model.
const COUNTS = ["version", "tensor_count", "kv_count"];
// JSON has one kind of number, JavaScript two; integers beyond 2^53 are compared as JSON reads them.
const plain = (value) =>
    Array.isArray(value) ? value.map(plain) : typeof value === "bigint" ? Number(value) : value;

/** What differs between the two views of a file; empty if nothing does. */
async function difference(file) {
    const own = JSON.parse(execFileSync(kquant, ["inspect", file, "--json"], { maxBuffer: 1 << 30 }));
    const { metadata, tensorInfos } = await gguf(file, { allowLocalFile: true });
    const found = Object.keys(metadata).filter((key) => !COUNTS.includes(key));
    const expected = Object.keys(own.metadata);
    if (!isDeepStrictEqual(found.sort(), expected.sort())) return `keys ${found} are not ${expected}`;
    for (const key of expected) {
        if (!isDeepStrictEqual(plain(metadata[key]), plain(own.metadata[key].value))) return `the value of ${key} differs`;
    }
    // Rows come first in our view, columns first in the file.
    const seen = tensorInfos.map((t) => [t.name, GGMLQuantizationType[t.dtype], plain(t.shape).reverse()]);
    const listed = own.tensors.map((t) => [t.name, t.type, t.shape]);
    const at = listed.findIndex((tensor, i) => !isDeepStrictEqual(tensor, seen[i]));
    if (at >= 0 || seen.length !== listed.length) return `tensor ${at}: ${seen[at]} is not ${listed[at]}`;
    return "";
}

let failed = 0;
for (const file of files) {
    const what = await difference(file).catch((error) => error.message);
    console.log(`${file}: ${what || "ok"}`);
    failed += what ? 1 : 0;
}
console.log(`${files.length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
