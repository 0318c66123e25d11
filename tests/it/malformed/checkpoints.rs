//! Safetensors files, their tensors, shards and index.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::malformed::check;
use crate::support::*;

/// A folder whose safetensors file is the micro model's, changed.
fn with_tensors(folder: &Path, change: impl FnOnce(&mut Vec<Tensor>)) -> PathBuf {
    let mut tensors = micro_llama();
    change(&mut tensors);
    write_folder(folder, &tensors);
    folder.to_owned()
}

/// A folder whose safetensors bytes are changed.
fn with_bytes(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let tensors = micro_llama();
    let mut bytes = safetensors_bytes(&safetensors_header(&tensors), &tensors);
    change(&mut bytes);
    write_surroundings(folder);
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
    folder.to_owned()
}

/// A folder whose safetensors header entry for `name` is changed.
fn with_entry(folder: &Path, name: &str, key: &str, value: Json) -> PathBuf {
    let tensors = micro_llama();
    let mut header = safetensors_header(&tensors);
    header[name][key] = value;
    write_surroundings(folder);
    fs::write(folder.join("model.safetensors"), safetensors_bytes(&header, &tensors)).unwrap();
    folder.to_owned()
}

fn find<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|t| t.name.contains(name)).unwrap()
}

const NORM: &str = "model.norm.weight";

#[test]
fn safetensors_files() {
    check(
        "malformed-safetensors",
        &[
            ("empty file", |f| with_bytes(f, |b| b.clear()), &[], "model.safetensors"),
            ("header length cut", |f| with_bytes(f, |b| b.truncate(5)), &[], "model.safetensors"),
            ("header cut", |f| with_bytes(f, |b| b.truncate(100)), &[], "model.safetensors"),
            ("header longer than the file", |f| with_bytes(f, |b| b[4] = 1), &[], "model.safetensors"),
            ("header of 2^63 bytes", |f| with_bytes(f, |b| b[7] = 0x80), &[], "model.safetensors"),
            ("header no JSON", |f| with_bytes(f, |b| b[9] = 0xff), &[], "model.safetensors"),
            ("data cut", |f| with_bytes(f, |b| b.truncate(b.len() - 7)), &[], "model.safetensors"),
            ("bytes after the data", |f| with_bytes(f, |b| b.extend([0; 3])), &[], "model.safetensors"),
            ("overlap", |f| with_entry(f, NORM, "data_offsets", json!([0, 2 * HIDDEN])), &[], "overlaps"),
            ("offsets reversed", |f| with_entry(f, NORM, "data_offsets", json!([512, 0])), &[], NORM),
            (
                "offsets past the end",
                |f| with_entry(f, NORM, "data_offsets", json!([0, 1u64 << 60])),
                &[],
                NORM,
            ),
            ("shape larger than the data", |f| with_entry(f, NORM, "shape", json!([HIDDEN + 1])), &[], NORM),
            ("shape overflows", |f| with_entry(f, NORM, "shape", json!([u64::MAX, u64::MAX])), &[], ""),
            ("dtype of another size", |f| with_entry(f, NORM, "dtype", json!("F32")), &[], NORM),
            ("unknown dtype", |f| with_entry(f, NORM, "dtype", json!("Q9")), &[], "Q9"),
        ],
    );
}

#[test]
fn tensors_of_a_checkpoint() {
    check(
        "malformed-tensors",
        &[
            (
                "NaN",
                |f| {
                    with_tensors(f, |t| {
                        find(t, "o_proj").data[(5 * 256 + 17) * 2..][..2].copy_from_slice(&[0xc0, 0x7f])
                    })
                },
                &[],
                "`blk.0.attn_output.weight` (from `model.layers.0.self_attn.o_proj.weight`): weight at row 5, column 17 is NaN",
            ),
            (
                "infinity, found in the permuted row",
                |f| {
                    with_tensors(f, |t| {
                        find(t, "q_proj").data[(33 * 256) * 2..][..2].copy_from_slice(&[0x80, 0xff])
                    })
                },
                &[],
                "`blk.0.attn_q.weight` (from `model.layers.0.self_attn.q_proj.weight`): weight at row 3, column 0 is -inf",
            ),
            (
                "NaN in a norm",
                |f| with_tensors(f, |t| find(t, NORM).data[2..4].copy_from_slice(&[0xff, 0x7f])),
                &[],
                "output_norm.weight",
            ),
            (
                "missing tensor",
                |f| with_tensors(f, |t| t.retain(|t| !t.name.contains("k_proj"))),
                &[],
                "model.layers.0.self_attn.k_proj.weight",
            ),
            (
                "unknown tensor",
                |f| with_tensors(f, |t| t.push(Tensor::bf16("model.layers.0.surprise.weight", &[4], 1))),
                &[],
                "model.layers.0.surprise.weight",
            ),
            (
                "wrong shape",
                |f| {
                    with_tensors(f, |t| {
                        *find(t, "v_proj") =
                            Tensor::bf16("model.layers.0.self_attn.v_proj.weight", &[64, HIDDEN], 1)
                    })
                },
                &[],
                "model.layers.0.self_attn.v_proj.weight",
            ),
            (
                "fewer embeddings than the configuration says",
                |f| {
                    with_tensors(f, |t| {
                        *find(t, "embed") = Tensor::bf16("model.embed_tokens.weight", &[VOCAB - 1, HIDDEN], 1)
                    })
                },
                &[],
                "model.embed_tokens.weight",
            ),
            (
                "packed integers instead of weights",
                |f| {
                    with_tensors(f, |t| {
                        let up = find(t, "up_proj");
                        up.dtype = "U8";
                        up.data.truncate((HIDDEN * HIDDEN) as usize);
                    })
                },
                &[],
                "U8",
            ),
            ("8-bit floats with scales of a wrong shape", float8_with_bad_scales, &[], "weight_scale_inv"),
        ],
    );
}

fn float8_with_bad_scales(folder: &Path) -> PathBuf {
    with_tensors(folder, |tensors| {
        let up = find(tensors, "up_proj");
        up.dtype = "F8_E4M3";
        up.data.truncate((HIDDEN * HIDDEN) as usize);
        let name = format!("{}_scale_inv", up.name);
        tensors.push(Tensor::f32(&name, &[3, 3], &[1.0; 9]));
    })
}

/// A sharded folder whose index is changed.
fn with_index(folder: &Path, change: impl FnOnce(&mut Json)) -> PathBuf {
    write_sharded(folder, &micro_llama(), 2);
    let path = folder.join("model.safetensors.index.json");
    let mut index: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut index);
    fs::write(path, index.to_string()).unwrap();
    folder.to_owned()
}

#[test]
fn sharded_checkpoints() {
    check(
        "malformed-shards",
        &[
            (
                "missing shard",
                |f| {
                    let folder = with_index(f, |_| {});
                    fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap();
                    folder
                },
                &[],
                "model-00002-of-00002.safetensors",
            ),
            (
                "listed tensor that the shard has not",
                |f| with_index(f, |i| i["weight_map"]["ghost"] = json!("model-00001-of-00002.safetensors")),
                &[],
                "ghost",
            ),
            (
                "tensor in a shard that the index does not list",
                |f| with_index(f, |i| drop(i["weight_map"].as_object_mut().unwrap().remove(NORM))),
                &[],
                NORM,
            ),
            (
                "listed in the other shard",
                |f| with_index(f, |i| i["weight_map"][NORM] = json!("model-00001-of-00002.safetensors")),
                &[],
                NORM,
            ),
            (
                "path out of the folder",
                |f| with_index(f, |i| i["weight_map"][NORM] = json!("../x.safetensors")),
                &[],
                "../x",
            ),
            (
                "absolute path",
                |f| with_index(f, |i| i["weight_map"][NORM] = json!("/etc/passwd")),
                &[],
                "/etc/passwd",
            ),
            (
                "index that lists itself",
                |f| with_index(f, |i| i["weight_map"][NORM] = json!("model.safetensors.index.json")),
                &[],
                "model.safetensors.index.json",
            ),
            ("no weight_map", |f| with_index(f, |i| *i = json!({})), &[], "weight_map"),
            (
                "number for a file name",
                |f| with_index(f, |i| i["weight_map"][NORM] = json!(7)),
                &[],
                "index.json",
            ),
            (
                "index no JSON",
                |f| {
                    let folder = with_index(f, |_| {});
                    fs::write(folder.join("model.safetensors.index.json"), "{").unwrap();
                    folder
                },
                &[],
                "model.safetensors.index.json",
            ),
            (
                "same tensor in two shards",
                |f| {
                    let folder = with_index(f, |_| {});
                    let mut own: Vec<Tensor> = micro_llama().into_iter().skip(1).step_by(2).collect();
                    own.push(micro_llama().swap_remove(0));
                    write_safetensors(&folder.join("model-00002-of-00002.safetensors"), &own);
                    folder
                },
                &[],
                "model.embed_tokens.weight",
            ),
        ],
    );
}
