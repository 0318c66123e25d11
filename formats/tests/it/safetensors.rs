//! Checkpoints as the safetensors library writes them.
use std::collections::HashMap;

use crate::common::Scratch;
use ::safetensors::tensor::{Dtype as Stored, TensorView};
use kquant_formats::safetensors::{Dtype, NewTensor, SafeTensors, index, places, shard_counts, shard_name};

const TYPES: [(Stored, Dtype); 19] = [
    (Stored::F64, Dtype::F64),
    (Stored::F32, Dtype::F32),
    (Stored::F16, Dtype::F16),
    (Stored::BF16, Dtype::BF16),
    (Stored::F8_E4M3, Dtype::F8E4M3),
    (Stored::F8_E5M2, Dtype::F8E5M2),
    (Stored::F8_E8M0, Dtype::F8E8M0),
    (Stored::F8_E4M3FNUZ, Dtype::F8E4M3Fnuz),
    (Stored::F8_E5M2FNUZ, Dtype::F8E5M2Fnuz),
    (Stored::C64, Dtype::C64),
    (Stored::I64, Dtype::I64),
    (Stored::I32, Dtype::I32),
    (Stored::I16, Dtype::I16),
    (Stored::I8, Dtype::I8),
    (Stored::U64, Dtype::U64),
    (Stored::U32, Dtype::U32),
    (Stored::U16, Dtype::U16),
    (Stored::U8, Dtype::U8),
    (Stored::BOOL, Dtype::Bool),
];

#[test]
fn every_type_is_read() {
    let bytes: Vec<u8> = (0..6 * 8).collect();
    let views = TYPES.iter().map(|(stored, _)| {
        let length = 6 * stored.bitsize() / 8;
        (stored.to_string(), TensorView::new(*stored, vec![2, 3], &bytes[..length]).unwrap())
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = ::safetensors::serialize(views, Some(metadata)).unwrap();
    let scratch = Scratch::new();
    scratch.file("model.safetensors", &file);

    let read = SafeTensors::open(scratch.path()).unwrap();
    let expected = ::safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(read.tensors().len(), TYPES.len());
    assert!(read.tensors().is_sorted_by_key(|t| t.offset));
    for (stored, dtype) in TYPES {
        assert_eq!(dtype.name(), stored.to_string());
        assert_eq!(dtype.bytes() as usize * 8, stored.bitsize());
        let i = read.tensors().iter().position(|t| t.name == dtype.name()).unwrap();
        assert_eq!((read.tensors()[i].dtype, read.tensors()[i].shape.as_slice()), (dtype, &[2, 3][..]));
        assert_eq!(read.data(i).unwrap(), expected.tensor(dtype.name()).unwrap().data());
    }
    assert!(read.data(TYPES.len()).is_err());
    assert_eq!(read.metadata()["format"], "pt");
}

#[test]
fn shards_are_read_in_order() {
    let scratch = Scratch::new();
    let shard = |name: &str, tensors: &[(&str, [u8; 2])]| {
        let views = tensors.iter().map(|(n, data)| (*n, TensorView::new(Stored::U8, vec![2], data).unwrap()));
        scratch.file(name, &::safetensors::serialize(views, None).unwrap());
    };
    shard("model-00002-of-00002.safetensors", &[("a", [5, 6])]);
    shard("model-00001-of-00002.safetensors", &[("b", [1, 2]), ("c", [3, 4])]);
    let index = scratch.file(
        "model.safetensors.index.json",
        br#"{"metadata": {"total_size": 6}, "weight_map": {
            "a": "model-00002-of-00002.safetensors",
            "b": "model-00001-of-00002.safetensors",
            "c": "model-00001-of-00002.safetensors"}}"#,
    );
    for path in [scratch.path(), &index] {
        let read = SafeTensors::open(path).unwrap();
        let found: Vec<_> = read.tensors().iter().map(|t| (t.name.as_str(), t.shard)).collect();
        assert_eq!(found, [("b", 0), ("c", 0), ("a", 1)]);
        assert_eq!([0, 1, 2].map(|i| read.data(i).unwrap()), [[1, 2], [3, 4], [5, 6]]);
        assert!(read.files()[1].path().ends_with("model-00002-of-00002.safetensors"));
    }
}

#[test]
fn scalars_and_empty_tensors_are_read() {
    let views = [
        ("scalar", TensorView::new(Stored::F32, vec![], &[0, 0, 128, 63]).unwrap()),
        ("empty", TensorView::new(Stored::F32, vec![0, 4], &[]).unwrap()),
    ];
    let scratch = Scratch::new();
    let path = scratch.file("any.safetensors", &::safetensors::serialize(views, None).unwrap());
    let read = SafeTensors::open(&path).unwrap();
    let sizes: Vec<_> = read.tensors().iter().map(|t| (t.name.as_str(), t.bytes)).collect();
    assert!(sizes.contains(&("scalar", 4)) && sizes.contains(&("empty", 0)));
}

#[test]
fn a_file_that_was_laid_out_is_read() {
    let scratch = Scratch::new();
    let tensor =
        |name: &str, dtype, shape: &[u64]| NewTensor { name: name.into(), dtype, shape: shape.into() };
    let tensors = [
        tensor("b", Dtype::BF16, &[3, 5]),
        tensor("a", Dtype::F32, &[7]),
        tensor("\"quoted\"", Dtype::F16, &[2, 2, 3]),
        tensor("scalar", Dtype::F32, &[]),
    ];
    let counts = shard_counts(&tensors, 60);
    assert_eq!(counts, [2, 2]);
    assert_eq!(shard_counts(&tensors, 1), [1, 1, 1, 1]);
    assert_eq!(
        (shard_name(0, 1), shard_name(1, 2)),
        ("model.safetensors".into(), "model-00002-of-00002.safetensors".into())
    );
    let mut first = 0;
    for (number, count) in counts.iter().enumerate() {
        let part = &tensors[first..first + count];
        let layout = places(part).unwrap();
        let mut bytes = layout.header;
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(layout.offsets[0], bytes.len() as u64);
        bytes.resize(layout.total as usize, number as u8);
        scratch.file(&shard_name(number, 2), &bytes);
        first += count;
    }
    scratch.file("model.safetensors.index.json", index(&tensors, &counts).as_bytes());
    let read = SafeTensors::open(scratch.path()).unwrap();
    let found: Vec<NewTensor> = read
        .tensors()
        .iter()
        .map(|t| NewTensor { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() })
        .collect();
    assert_eq!(found, tensors);
    assert_eq!(read.metadata()["format"], "pt");
    assert_eq!(read.data(3).unwrap(), [1; 4]);
    let twice = [tensors[0].clone(), tensors[0].clone()];
    assert!(places(&twice).unwrap_err().to_string().contains("two tensors are called"));
    assert!(places(&[tensor("x", Dtype::F32, &[u64::MAX, 2])]).is_err());
}
