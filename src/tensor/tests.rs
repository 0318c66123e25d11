//! Selections against the whole tensor, read row by row.

use std::path::Path;
use std::sync::Arc;

use kquant_kernels::block::by_name;

use super::{MappedTensor, Selection, Source, Stash, read_rows};
use crate::checkpoint::{self, Opened};
use crate::convert::convert;

/// The small model and its tensor `name`.
fn tensor(name: &str) -> (Opened, MappedTensor) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-llama");
    let opened = checkpoint::open(&folder).unwrap();
    let tensors = convert(&opened, None, None).unwrap().tensors;
    let found = tensors.into_iter().find(|t| t.name == name).unwrap();
    (opened, found)
}

fn values(opened: &Opened, tensor: &MappedTensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.weights() as usize];
    read_rows(opened.checkpoint.as_ref(), tensor, 0..tensor.rows(), &mut out).unwrap();
    out
}

#[test]
fn rows_and_columns_are_those_of_the_whole_tensor() {
    // The rows of queries are rearranged already, those of the others are not.
    for name in ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"] {
        let (opened, whole) = tensor(name);
        let (all, width) = (values(&opened, &whole), whole.columns() as usize);
        let (rows, columns) = ([7, 2, 3, 4, 0], [1, 0, 31, 30]);
        let picked = whole.select(Selection::of_rows(rows));
        assert_eq!(picked.shape, [width as u64, 5]);
        let expected = rows.iter().flat_map(|&r| &all[r as usize * width..][..width]);
        assert!(values(&opened, &picked).iter().eq(expected), "{name}");
        let both = picked.select(Selection::of_columns(columns));
        assert_eq!(both.shape, [4, 5]);
        let expected = rows.iter().flat_map(|&r| columns.map(|c| all[r as usize * width + c as usize]));
        assert!(values(&opened, &both).into_iter().eq(expected), "{name}");
    }
}

#[test]
fn changed_weights_can_be_selected_of() {
    let (opened, whole) = tensor("blk.0.ffn_down.weight");
    let doubled: Vec<f32> = values(&opened, &whole).iter().map(|w| 2.0 * w).collect();
    let bytes = doubled.iter().flat_map(|w| w.to_le_bytes()).collect();
    let mut stash = Stash::new(0);
    stash.insert("down", by_name("F32").unwrap(), whole.columns() as usize, bytes).unwrap();
    let source = Source::Changed { stash: Arc::new(stash), name: "down".into() };
    let changed = MappedTensor { source, ..whole };
    assert_eq!(values(&opened, &changed), doubled);
    let picked = changed.select(Selection::of_rows([3]));
    assert_eq!(
        values(&opened, &picked),
        doubled[3 * changed.columns() as usize..][..picked.columns() as usize]
    );
}

#[test]
fn numbers_that_a_tensor_lacks_are_errors() {
    let (opened, whole) = tensor("blk.0.ffn_down.weight");
    let mut out = vec![0.0; whole.columns() as usize];
    let rows = whole.select(Selection::of_rows([whole.rows() as u32]));
    assert!(read_rows(opened.checkpoint.as_ref(), &rows, 0..1, &mut out).is_err());
    let columns = whole.select(Selection::of_columns([whole.columns() as u32]));
    assert!(read_rows(opened.checkpoint.as_ref(), &columns, 0..1, &mut out[..1]).is_err());
}
