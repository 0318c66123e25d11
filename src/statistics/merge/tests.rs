use super::*;

const NAME: &str = "blk.0.ffn_up_exps.weight";

fn file(
    name: &str,
    chunk_size: Option<u32>,
    shape: [usize; 2],
    sums: &[f32],
    counts: &[f32],
) -> (PathBuf, Imatrix) {
    let [matrices, columns] = shape;
    let entry = Entry { columns, matrices, sums: sums.to_vec(), counts: counts.to_vec() };
    let matrix = Imatrix {
        entries: [(NAME.to_owned(), entry)].into(),
        datasets: vec![format!("{name}.txt")],
        chunk_count: Some(2),
        chunk_size,
    };
    (name.into(), matrix)
}

#[test]
fn sums_counts_and_chunks_are_added() {
    let a = file("a", Some(8), [2, 1], &[3.0, 0.0], &[5.0, 0.0]);
    let b = file("b", Some(8), [2, 1], &[4.0, 1.5], &[7.0, 1.0]);
    let Merged { matrix, notes } = merge(&[b, a], None).unwrap();
    assert_eq!(matrix, sum(file("", Some(8), [2, 1], &[7.0, 1.5], &[12.0, 1.0]), ["a.txt", "b.txt"]));
    assert!(notes.is_empty());
}

/// Returns the matrix of `file` with four chunks and the texts `datasets`.
fn sum(file: (PathBuf, Imatrix), datasets: [&str; 2]) -> Imatrix {
    let datasets = datasets.map(str::to_owned).to_vec();
    Imatrix { chunk_count: Some(4), datasets, ..file.1 }
}

/// The value 1 + 2^-24 lies between two f32: it is rounded to the lower one unless the last four addends, which f64 loses
/// one by one, are added first.
#[test]
fn the_order_of_the_files_changes_no_bit() {
    let [half, tiny] = [2f32.powi(-24), 2f32.powi(-54)];
    let values = [1.0, half, tiny, tiny, tiny, tiny];
    let mut files: Vec<_> =
        values.iter().map(|&v| file(&v.to_string(), Some(8), [1, 1], &[v], &[1.0])).collect();
    let first = merge(&files, None).unwrap().matrix;
    assert_eq!(first.entries[NAME].sums, [1.0 + f32::EPSILON]);
    for turn in 1..files.len() {
        files.rotate_left(1);
        assert_eq!(merge(&files, None).unwrap().matrix, first, "{turn}");
    }
}

#[test]
fn legacy_files_alone_stay_in_chunks() {
    let a = file("a", None, [1, 2], &[2.0, 4.0], &[2.0]);
    let b = file("b", None, [1, 2], &[9.0, 3.0], &[3.0]);
    let files = [a, b];
    let matrix = merge(&files, None).unwrap().matrix;
    assert_eq!(matrix, sum(file("", None, [1, 2], &[11.0, 7.0], &[5.0]), ["a.txt", "b.txt"]));
    let matrix = merge(&files, Some(10)).unwrap().matrix;
    assert_eq!(matrix, sum(file("", Some(10), [1, 2], &[110.0, 70.0], &[50.0]), ["a.txt", "b.txt"]));
}

#[test]
fn a_legacy_file_among_others_needs_its_chunk_size_and_counts_for_every_expert() {
    let files = [
        file("old.dat", None, [1, 2], &[2.0, 4.0], &[2.0]),
        file("new", Some(8), [2, 1], &[1.0, 1.0], &[0.0, 9.0]),
    ];
    assert_eq!(merge(&files, None), Err(MergeError::UnknownChunkSize("old.dat".into())));
    let matrix = merge(&files, Some(8)).unwrap().matrix;
    let datasets = ["new.txt", "old.dat.txt"];
    assert_eq!(matrix, sum(file("", Some(8), [2, 1], &[17.0, 33.0], &[16.0, 25.0]), datasets));
}

#[test]
fn different_chunk_sizes_must_be_wanted() {
    let files = [file("a", Some(8), [1, 1], &[1.0], &[16.0]), file("b", Some(32), [1, 1], &[1.0], &[64.0])];
    let error = merge(&files, None).unwrap_err().to_string();
    assert!(error.contains("a has chunks of 8 tokens, b of 32") && error.contains("--chunk-size"), "{error}");
    let matrix = merge(&files, Some(16)).unwrap().matrix;
    assert_eq!((matrix.chunk_count, matrix.chunk_size), (Some(5), Some(16)));
}

#[test]
fn other_models_are_refused() {
    let a = file("a", Some(8), [2, 2], &[1.0; 4], &[1.0; 2]);
    for (shape, counts, expected) in [
        ([1, 2], &[1.0][..], "b: entry `blk.0.ffn_up_exps.weight` has 1 matrices of 2 columns, 2 of 2 in a"),
        ([4, 1], &[1.0; 4], "a: entry `blk.0.ffn_up_exps.weight` has 2 matrices of 2 columns, 4 of 1 in b"),
    ] {
        let b = file("b", Some(8), shape, &vec![1.0; shape[0] * shape[1]], counts);
        let error = merge(&[a.clone(), b], None).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn entries_that_a_file_lacks_are_taken_from_the_others_and_noted() {
    let a = file("a", Some(8), [1, 1], &[1.0], &[1.0]);
    let (name, mut b) = file("b", Some(8), [1, 1], &[2.0], &[3.0]);
    b.entries.insert("output.weight".into(), b.entries[NAME].clone());
    let merged = merge(&[a, (name, b)], None).unwrap();
    assert_eq!(merged.matrix.entries[NAME].sums, [3.0]);
    assert_eq!(merged.matrix.entries["output.weight"].sums, [2.0]);
    assert_eq!(merged.notes.len(), 1);
    assert!(
        merged.notes[0].starts_with("a has nothing on 1 of 2 tensors, output.weight"),
        "{:?}",
        merged.notes
    );
}
