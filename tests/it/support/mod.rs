//! What whole-program tests share: scratch folders, a micro checkpoint made by code, runs of the binary.

pub mod archs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value as Json, json};

/// A folder that goes away with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the binary.
pub fn kquant<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kquant")).args(args).output().unwrap()
}

/// Runs `kquant quantize MODEL -o OUT --type TYPE ...`.
pub fn quantize(model: &Path, out: &Path, kind: &str, more: &[&str]) -> Output {
    let (model, out) = (model.to_str().unwrap(), out.to_str().unwrap());
    kquant(["quantize", model, "-o", out, "--type", kind].into_iter().chain(more.iter().copied()))
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts success; returns standard output.
pub fn ok(output: Output) -> String {
    assert!(output.status.success(), "exit {:?}: {}", output.status.code(), stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Names of the files beside `out`, itself included, that begin with its name.
pub fn beginning_with(out: &Path) -> Vec<String> {
    let name = out.file_name().unwrap().to_str().unwrap();
    let Ok(entries) = fs::read_dir(out.parent().unwrap()) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|found| found.starts_with(name)).collect()
}

/// Asserts exit code 2, a message with `fragment`, and that there is neither `out` nor an unfinished file of it.
pub fn refused(case: &str, output: &Output, fragment: &str, out: &Path) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{case}: {message}");
    assert!(!message.contains("panicked"), "{case}: {message}");
    assert!(message.contains(fragment), "{case}: expected `{fragment}` in: {message}");
    let left = beginning_with(out);
    assert!(left.is_empty(), "{case}: {left:?} was left at {}", out.display());
}

/// Mean KL divergence of `file` from `model` on the small evaluation text.
pub fn divergence(file: &Path, model: &Path) -> f64 {
    let [file, model, text] =
        [file, model, &data("corpora/eval-small.txt")].map(|p| p.to_str().unwrap().to_owned());
    let args = ["perplexity", &file, "--base", &model, "--text", &text, "-q", "--json", "-"];
    let cut = ["--context", "64", "--chunks", "40"];
    let report: serde_json::Value = serde_json::from_str(&ok(kquant([&args[..], &cut].concat()))).unwrap();
    report["kl"]["mean"].as_f64().unwrap()
}

/// A path inside tests/data.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A tensor for a safetensors file.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

/// Deterministic weights around zero.
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (next() + next() + next()) * 0.1).collect()
}

impl Tensor {
    pub fn f32(name: &str, shape: &[u64], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name: name.into(), dtype: "F32", shape: shape.to_vec(), data }
    }

    pub fn bf16(name: &str, shape: &[u64], seed: u64) -> Self {
        let n = shape.iter().product::<u64>() as usize;
        let data = noise(seed, n).iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        Self { name: name.into(), dtype: "BF16", shape: shape.to_vec(), data }
    }
}

/// Hidden size of the micro model; a k-quant superblock.
pub const HIDDEN: u64 = 256;
/// Rows of its embedding: those of the vocabulary in tests/data/archs/gpt2.
pub const VOCAB: u64 = 320;

/// The tensors of a llama with one layer.
pub fn micro_llama() -> Vec<Tensor> {
    let matrix = |name: &str, rows: u64, seed: u64| Tensor::bf16(name, &[rows, HIDDEN], seed);
    let norm = |name: &str, seed: u64| Tensor::bf16(name, &[HIDDEN], seed);
    let layer = "model.layers.0";
    vec![
        matrix("model.embed_tokens.weight", VOCAB, 1),
        norm("model.norm.weight", 2),
        matrix("lm_head.weight", VOCAB, 3),
        norm(&format!("{layer}.input_layernorm.weight"), 4),
        norm(&format!("{layer}.post_attention_layernorm.weight"), 5),
        matrix(&format!("{layer}.self_attn.q_proj.weight"), HIDDEN, 6),
        matrix(&format!("{layer}.self_attn.k_proj.weight"), HIDDEN / 2, 7),
        matrix(&format!("{layer}.self_attn.v_proj.weight"), HIDDEN / 2, 8),
        matrix(&format!("{layer}.self_attn.o_proj.weight"), HIDDEN, 9),
        matrix(&format!("{layer}.mlp.gate_proj.weight"), HIDDEN, 10),
        matrix(&format!("{layer}.mlp.up_proj.weight"), HIDDEN, 11),
        matrix(&format!("{layer}.mlp.down_proj.weight"), HIDDEN, 12),
    ]
}

pub fn micro_config() -> Json {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": HIDDEN,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "vocab_size": VOCAB, "max_position_embeddings": 128, "hidden_act": "silu",
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16"
    })
}

/// The header of a safetensors file: tensors one after the other.
pub fn safetensors_header(tensors: &[Tensor]) -> serde_json::Map<String, Json> {
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for t in tensors {
        let end = offset + t.data.len();
        header.insert(
            t.name.clone(),
            json!({ "dtype": t.dtype, "shape": t.shape, "data_offsets": [offset, end] }),
        );
        offset = end;
    }
    header
}

/// A safetensors file: length, header, data.
pub fn safetensors_bytes(header: &serde_json::Map<String, Json>, tensors: &[Tensor]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    tensors.iter().for_each(|t| bytes.extend(&t.data));
    bytes
}

pub fn write_safetensors(path: &Path, tensors: &[Tensor]) {
    fs::write(path, safetensors_bytes(&safetensors_header(tensors), tensors)).unwrap();
}

/// Writes configuration and tokenizer, everything but the tensors.
pub fn write_surroundings(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), micro_config().to_string()).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(data("archs/gpt2").join(name), folder.join(name)).unwrap();
    }
}

/// Writes a whole Hugging Face folder.
pub fn write_folder(folder: &Path, tensors: &[Tensor]) {
    write_surroundings(folder);
    write_safetensors(&folder.join("model.safetensors"), tensors);
}

/// Writes the tensors into `parts` shards with an index.
pub fn write_sharded(folder: &Path, tensors: &[Tensor], parts: usize) {
    write_surroundings(folder);
    let mut map = serde_json::Map::new();
    for part in 0..parts {
        let name = format!("model-{:05}-of-{parts:05}.safetensors", part + 1);
        let own: Vec<Tensor> = tensors.iter().skip(part).step_by(parts).cloned().collect();
        own.iter().for_each(|t| drop(map.insert(t.name.clone(), json!(name))));
        write_safetensors(&folder.join(name), &own);
    }
    let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// Copies the checkpoint `from` of tests/data to `folder` with the bytes of its tensor `name` changed.
pub fn copy_changed(from: &str, folder: &Path, name: &str, change: impl Fn(&[u64], &mut [u8])) -> PathBuf {
    use safetensors::{Dtype, SafeTensors};

    fs::create_dir_all(folder).unwrap();
    for file in fs::read_dir(data(from)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut tensors = Vec::new();
    for (tensor, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let dtype = match view.dtype() {
            Dtype::BF16 => "BF16",
            Dtype::F32 => "F32",
            Dtype::U8 => "U8",
            other => panic!("{other:?}"),
        };
        let shape: Vec<u64> = view.shape().iter().map(|&n| n as u64).collect();
        let mut data = view.data().to_vec();
        if tensor == name {
            change(&shape, &mut data);
        }
        tensors.push(Tensor { name: tensor, dtype, shape, data });
    }
    write_safetensors(&path, &tensors);
    folder.to_owned()
}
