//! Logits files: round trips, and damaged files that are refused.
use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::logits::{LogitsFile, LogitsWriter, encode_row};
use proptest::prelude::*;

const CONTEXT: usize = 6;
const VOCABULARY: usize = 3;
const HEADER: usize = 20;
const TOKENS: [u32; 12] = [0, 1, 2, 0, 1, 2, 2, 1, 0, 2, 1, 0];
/// Size of a row in bytes: scale and minimum, three codes, and one code for evenness.
const ROW: usize = 8 + 2 * 4;

/// A folder of one test, which is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("base.logits")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().map(|v| (v - max).exp()).sum::<f32>().ln()
}

pub fn encoded(logits: &[f32]) -> Vec<u8> {
    let mut row = Vec::new();
    encode_row(logits, log_sum_exp(logits), &mut row).unwrap();
    row
}

/// Writes two chunks with two rows each.
fn write(path: &Path) {
    let mut writer = LogitsWriter::create(path, CONTEXT, VOCABULARY, &TOKENS, true).unwrap();
    writer.append(&[encoded(&[0.0, 1.0, 2.0]), encoded(&[5.0; 3])].concat()).unwrap();
    writer.append(&encoded(&[3.0, -90.0, 0.0])).unwrap();
    writer.append(&encoded(&[f32::NEG_INFINITY, 0.0, 0.0])).unwrap();
    writer.finish().unwrap();
}

fn decoded(file: &LogitsFile, chunk: usize, row: usize) -> Vec<f32> {
    let mut log_probs = vec![f32::NAN];
    file.row(chunk, row, &mut Vec::new()).unwrap().decode_into(&mut log_probs);
    log_probs
}

fn near(actual: &[f32], expected: &[f32]) -> bool {
    actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, e)| (a - e).abs() < 2e-4)
}

#[test]
fn what_is_written_can_be_read() {
    let scratch = Scratch::new("logits-written");
    let path = scratch.file();
    write(&path);
    let file = LogitsFile::open(&path).unwrap();
    assert_eq!((file.context(), file.vocabulary(), file.chunks(), file.rows_per_chunk()), (6, 3, 2, 2));
    assert_eq!((file.tokens(), file.path()), (&TOKENS[..], path.as_path()));
    // The normalizer is ln(1 + 1/e + 1/e^2).
    let total = 0.407_606;
    assert!(near(&decoded(&file, 0, 0), &[-2.0 - total, -1.0 - total, -total]));
    assert!(near(&decoded(&file, 0, 1), &[-1.098_612; 3]));
    // Log-probabilities 16 or more below the best token's are cut off there; the normalizer is ln(1 + 1/e^3) = 0.048587.
    assert!(near(&decoded(&file, 1, 0), &[-0.048_587, -16.048_587, -3.048_587]));
    let half = -std::f32::consts::LN_2;
    assert!(near(&decoded(&file, 1, 1), &[half - 16.0, half, half]));
    for (chunk, row) in [(2, 0), (0, 2), (usize::MAX, usize::MAX)] {
        assert!(matches!(file.row(chunk, row, &mut Vec::new()), Err(FormatError::Invalid { .. })));
    }
}

#[test]
fn bytes_by_hand() {
    // Codes are steps of 2/65535 down from the best; 1.0 is step 32767.5, a tie that goes to the even neighbour.
    let expected = [
        &(2.0f32 / 65535.0).to_le_bytes()[..],
        &(-2.0f32 - 0.5).to_le_bytes(),
        &[0, 0, 0x00, 0x80, 0xff, 0xff, 0, 0],
    ]
    .concat();
    let mut row = Vec::new();
    encode_row(&[0.0, 1.0, 2.0], 0.5, &mut row).unwrap();
    assert_eq!(row, expected);
    let mut even = Vec::new();
    encode_row(&[7.0, 7.0], 0.5, &mut even).unwrap();
    assert_eq!(even, [&[0; 4][..], &(-0.5f32).to_le_bytes(), &[0; 4]].concat());
}

#[test]
fn rows_without_log_probabilities_are_refused() {
    let fault = |logits: &[f32], total| encode_row(logits, total, &mut Vec::new()).unwrap_err().to_string();
    assert!(fault(&[f32::INFINITY, 0.0], 0.0).contains("maximum inf"));
    assert!(fault(&[f32::NEG_INFINITY; 2], 0.0).contains("maximum -inf"));
    assert!(fault(&[1.0, 2.0], f32::NAN).contains("log-sum-exp NaN"));
    assert!(fault(&[], 0.0).contains("maximum -inf"));
}

#[test]
fn a_writer_takes_neither_more_nor_less_than_its_rows() {
    let scratch = Scratch::new("logits-writer");
    let path = scratch.file();
    let create =
        |context, vocabulary, tokens: &[u32]| LogitsWriter::create(&path, context, vocabulary, tokens, true);
    let row = encoded(&[1.0, 2.0, 3.0]);
    let mut writer = create(CONTEXT, VOCABULARY, &TOKENS).unwrap();
    assert!(writer.append(&row[1..]).is_err());
    writer.append(&row.repeat(3)).unwrap();
    assert!(writer.append(&row.repeat(2)).is_err());
    let partial = writer.partial_path().to_owned();
    assert!(partial.exists());
    let message = writer.finish().unwrap_err().to_string();
    assert!(message.contains("1 rows of logits are missing"), "{message}");
    assert!(!partial.exists() && !path.exists());

    for (context, vocabulary, tokens, fragment) in [
        (5, 3, &TOKENS[..], "12 tokens are no chunks of 5"),
        (2, 3, &TOKENS, "12 tokens are no chunks of 2"),
        (0, 3, &TOKENS, "12 tokens are no chunks of 0"),
        (6, 3, &[], "0 tokens are no chunks of 6"),
        (6, 2, &TOKENS, "token 2 is outside the vocabulary of 2"),
        (6, 1 << 31, &TOKENS, "2147483648 does not fit"),
    ] {
        let message = create(context, vocabulary, tokens).unwrap_err().to_string();
        assert!(message.contains(fragment), "{message}");
    }
    assert!(!path.exists());
}

#[test]
fn damaged_files_are_refused() {
    type Case = (&'static str, fn(&mut Vec<u8>), &'static str);
    let number = |at: usize, n: i32| move |b: &mut Vec<u8>| b[at..at + 4].copy_from_slice(&n.to_le_bytes());
    let scratch = Scratch::new("logits-damaged");
    let path = scratch.file();
    write(&path);
    let good = fs::read(&path).unwrap();
    assert_eq!(good.len(), HEADER + 4 * TOKENS.len() + 4 * ROW);
    let refused = |case: &str, damage: &dyn Fn(&mut Vec<u8>), fragment: &str| {
        let mut bytes = good.clone();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let message = LogitsFile::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(fragment), "{case}: expected `{fragment}` in: {message}");
        assert!(message.contains("base.logits"), "{case}: {message}");
    };
    let cases: [Case; 8] = [
        ("empty", |b| b.clear(), "is no logits file"),
        ("half a magic", |b| b.truncate(5), "is no logits file"),
        ("another format", |b| b[..4].copy_from_slice(b"GGUF"), "is no logits file"),
        ("magic alone", |b| b.truncate(8), "tokens per chunk"),
        ("header cut", |b| b.truncate(18), "number of chunks"),
        ("tokens cut", |b| b.truncate(40), "take 132 bytes"),
        ("rows cut", |b| b.truncate(131), "has 131 bytes"),
        ("bytes too many", |b| b.push(0), "has 133 bytes"),
    ];
    cases.iter().for_each(|(case, damage, fragment)| refused(case, damage, fragment));
    for (case, at, n, fragment) in [
        ("no context", 8, 0, "at byte 8: the tokens per chunk is 0"),
        ("nothing scored", 8, 2, "at byte 8: the tokens per chunk is 2"),
        ("negative context", 8, -1, "at byte 8: the tokens per chunk is -1"),
        ("no vocabulary", 12, 0, "at byte 12: the size of the vocabulary is 0"),
        ("no chunks", 16, 0, "at byte 16: the number of chunks is 0"),
        ("huge context", 8, i32::MAX, "take"),
        ("huge vocabulary", 12, i32::MAX, "take"),
        ("huge number of chunks", 16, i32::MAX, "take"),
        ("another vocabulary", 12, 5, "take 148 bytes"),
        ("token outside the vocabulary", HEADER + 4, 3, "at byte 24: token 1 is 3"),
        ("negative token", HEADER + 4 * 11, -1, "at byte 64: token 11 is -1"),
    ] {
        refused(case, &number(at, n), fragment);
    }
    refused(
        "all counts huge",
        &|b| b[8..20].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f].repeat(3)),
        "more bytes than",
    );
}

#[test]
fn scales_that_are_no_numbers_are_refused_with_their_row() {
    let scratch = Scratch::new("logits-scales");
    let path = scratch.file();
    write(&path);
    let good = fs::read(&path).unwrap();
    let third = HEADER + 4 * TOKENS.len() + 2 * ROW;
    for (at, value) in [(third, f32::NAN), (third, -1.0), (third + 4, f32::INFINITY)] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let file = LogitsFile::open(&path).unwrap();
        assert!(file.row(0, 1, &mut Vec::new()).is_ok() && file.row(1, 1, &mut Vec::new()).is_ok());
        let message = file.row(1, 0, &mut Vec::new()).unwrap_err().to_string();
        assert!(message.contains("at byte 100: row 0 of chunk 1"), "{message}");
    }
}

#[test]
fn numbers_that_are_no_log_probabilities_are_refused_with_their_row() {
    let scratch = Scratch::new("logits-impossible");
    let path = scratch.file();
    write(&path);
    let good = fs::read(&path).unwrap();
    // The third row holds the scale, the minimum, the codes of tokens 0 to 2, and a filler.
    let third = HEADER + 4 * TOKENS.len() + 2 * ROW;
    let float = |value: f32| value.to_le_bytes().to_vec();
    for (at, bytes, fragment) in [
        (4, float(f32::MIN), "gives its likeliest token, 0, the log-probability -3"),
        (4, float(f32::MAX), "gives token 0 the log-probability 3"),
        (4, float(-15.9), "gives token 0 the log-probability 0.1"),
        (4, float(-19.0), "gives its likeliest token, 0, the log-probability -3"),
        (0, float(1e-3), "has scale 0.001: its log-probabilities reach 65.5"),
        (0, float(f32::MAX), "has scale 340282350000000000000000000000000000000: "),
        (0, float(0.0), "gives its likeliest token, 0, the log-probability -16.0"),
        (8, vec![0; 6], "gives its likeliest token, 0, the log-probability -16.0"),
        (14, vec![1], "has another filler than 0"),
    ] {
        let mut damaged = good.clone();
        damaged[third + at..third + at + bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, &damaged).unwrap();
        let file = LogitsFile::open(&path).unwrap();
        assert!(file.row(0, 1, &mut Vec::new()).is_ok() && file.row(1, 1, &mut Vec::new()).is_ok());
        let message = file.row(1, 0, &mut Vec::new()).unwrap_err().to_string();
        let wanted = format!("base.logits at byte 100: row 0 of chunk 1 {fragment}");
        assert!(message.contains(&wanted), "expected {wanted} in: {message}");
    }
}

proptest! {
    #[test]
    fn codes_are_within_half_a_step(logits in prop::collection::vec(-20f32..20.0, 1..40)) {
        let total = log_sum_exp(&logits);
        let row = encoded(&logits);
        prop_assert_eq!(row.len(), 8 + 2 * logits.len().next_multiple_of(2));
        let scratch = Scratch::new("logits-codes");
        let path = scratch.file();
        let mut writer = LogitsWriter::create(&path, 3, logits.len(), &[0; 3], true).unwrap();
        writer.append(&row).unwrap();
        writer.finish().unwrap();
        let file = LogitsFile::open(&path).unwrap();
        let scale = file.row(0, 0, &mut Vec::new()).unwrap().scale;
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (logit, log_prob) in logits.iter().zip(decoded(&file, 0, 0)) {
            let expected = (logit - max).max(-16.0) - total;
            prop_assert!((log_prob - expected).abs() <= 0.5 * scale + 1e-5, "{} for {}", log_prob, expected);
        }
    }
}
