use super::*;

const NAME: &str = "blk.0.ffn_down.weight";

/// Returns deterministic values of very different sizes, `[rows][columns]`.
fn activations(rows: usize, columns: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 1e6 - 8.0
    };
    (0..rows * columns).map(|_| next() * next().exp()).collect()
}

fn collected(importance: Importance) -> Imatrix {
    importance.into_imatrix("text", 8).unwrap()
}

#[test]
fn sums_are_those_of_f64_in_token_order() {
    let (rows, columns) = (37, 2 * BLOCK + 5);
    let x = activations(rows, columns);
    let mut importance = Importance::new(8, false);
    importance.linear_input(&[NAME], &x, columns).unwrap();
    importance.end_of_chunks(4);
    let matrix = collected(importance);
    let entry = &matrix.entries[NAME];
    assert_eq!((entry.columns, entry.matrices, &entry.counts[..]), (columns, 1, &[37.0][..]));
    for (column, &found) in entry.sums.iter().enumerate() {
        let values = x.iter().skip(column).step_by(columns);
        let sum = values.fold(0.0, |sum, &v| sum + f64::from(v) * f64::from(v));
        assert_eq!(found, sum as f32, "column {column}");
    }
    assert_eq!((matrix.chunk_count, matrix.chunk_size), (Some(4), Some(8)));
    assert_eq!(matrix.datasets, ["text"]);
}

#[test]
fn tiles_and_threads_change_no_bit() {
    let block = block_tokens(8);
    let (rows, columns) = (4 * block + 60, BLOCK + 3);
    let x = activations(rows, columns);
    let sums = |tile: usize, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut importance = Importance::new(8, false);
        pool.install(|| {
            x.chunks(tile * columns).for_each(|x| importance.linear_input(&[NAME], x, columns).unwrap());
        });
        importance.take(NAME).unwrap().squares
    };
    let whole = sums(rows, 1);
    for (tile, threads) in [(block, 1), (2 * block, 2), (3 * block, 3), (rows, 4)] {
        assert!(sums(tile, threads) == whole, "{tile} rows, {threads} threads");
    }
}

/// Parts that start at the bounds of blocks can be summed apart.
#[test]
fn parts_add_up_to_the_whole() {
    let block = block_tokens(8);
    let columns = 19;
    let x = activations(5 * block + 8, columns);
    let sums = |x: &[f32]| {
        let mut importance = Importance::new(8, false);
        importance.linear_input(&[NAME], x, columns).unwrap();
        importance.take(NAME).unwrap().squares
    };
    for at in [block, 3 * block] {
        let (a, b) = x.split_at(at * columns);
        let mut total = sums(b);
        total.add(&sums(a));
        assert_eq!(total, sums(&x), "cut at {at}");
    }
}

#[test]
fn tensors_of_one_input_share_its_sums() {
    let names = ["blk.0.attn_q.weight", "blk.0.attn_k.weight"];
    let mut importance = Importance::new(8, false);
    importance.linear_input(&names, &[1.0, 2.0], 2).unwrap();
    let matrix = collected(importance);
    assert_eq!(matrix.entries.len(), 2);
    assert!(names.iter().all(|name| matrix.entries[*name].sums == [1.0, 4.0]));
}

/// A sum in f32 would stay at 2^24, however many ones were added.
#[test]
fn sums_do_not_saturate() {
    let mut importance = Importance::new(8, false);
    importance.linear_input(&[NAME], &[4096.0], 1).unwrap();
    for _ in 0..4 {
        importance.linear_input(&[NAME], &[1.0; 1000], 1).unwrap();
    }
    assert_eq!(collected(importance).entries[NAME].sums, [16_777_216.0 + 4000.0]);
}

#[test]
fn experts_have_sums_and_counts_of_their_own() {
    let mut importance = Importance::new(8, false);
    importance.expert_input(&[NAME], 2, 3, &[1.0, 2.0, 3.0, 4.0], 2).unwrap();
    importance.expert_input(&[NAME], 0, 3, &[5.0, 6.0], 2).unwrap();
    importance.expert_input(&[NAME], 1, 3, &[], 2).unwrap();
    let entry = collected(importance).entries.remove(NAME).unwrap();
    assert_eq!((entry.matrices, entry.columns), (3, 2));
    assert_eq!(entry.sums, [25.0, 36.0, 0.0, 0.0, 10.0, 20.0]);
    assert_eq!(entry.counts, [1.0, 0.0, 2.0]);
}

#[test]
fn only_layers_are_observed_and_the_output_if_asked() {
    for (with_output, expected) in
        [(false, &["blk.7.attn_q.weight"][..]), (true, &["blk.7.attn_q.weight", "output.weight"])]
    {
        let mut importance = Importance::new(8, with_output);
        for name in ["blk.7.attn_q.weight", "output.weight", "token_embd.weight"] {
            importance.linear_input(&[name], &[1.0], 1).unwrap();
        }
        assert!(collected(importance).entries.keys().eq(expected));
    }
}

#[test]
fn bad_activations_are_named() {
    let mut importance = Importance::new(8, false);
    importance.linear_input(&[NAME], &[1.0; 6], 2).unwrap();
    let error = importance.linear_input(&[NAME], &[1.0, 1.0, 1.0, f32::NAN], 2).unwrap_err().to_string();
    assert!(error.contains(&format!("`{NAME}`: its input number 4 has NaN in column 1")), "{error}");
    let error = importance.expert_input(&["blk.1.x"], 3, 4, &[-f32::INFINITY], 1).unwrap_err().to_string();
    assert!(error.contains("`blk.1.x`, expert 3: its input number 0 has -inf in column 0"), "{error}");
    let error = importance.linear_input(&[NAME], &[1.0; 3], 3).unwrap_err().to_string();
    assert!(error.contains("of 2 columns before"), "{error}");
    assert!(importance.linear_input(&["blk.2.x"], &[1.0; 3], 2).is_err());
    assert!(importance.linear_input(&["blk.2.x"], &[], 0).is_err());
    assert!(importance.expert_input(&["blk.2.x"], 4, 4, &[], 1).is_err());
}

#[test]
fn a_sum_too_large_for_the_file_is_refused() {
    let mut importance = Importance::new(8, false);
    importance.linear_input(&[NAME], &[1.0, 3e19], 2).unwrap();
    let error = importance.into_imatrix("text", 8).unwrap_err().to_string();
    assert!(error.contains("column 1 is 9") && error.contains(NAME), "{error}");
}
