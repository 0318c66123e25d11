//! Tests of overrides, requantization, fallbacks and their errors.

use super::super::{
    Choice, FileType, Options, Overrides, Reason, RecipeError, TensorFacts, TensorType, assign, block_type,
    file_type, needs_importance,
};
use super::{block, llama, names, recipe, tensor};

const MATRIX: &[u64] = &[256, 256];

/// Returns the tensors of a small model: output, embedding, norm, and matrices of two layers.
fn tensors(source: &str) -> Vec<TensorFacts<'static>> {
    vec![
        tensor("output.weight", MATRIX, source),
        tensor("token_embd.weight", MATRIX, source),
        tensor("output_norm.weight", &[256], "F32"),
        tensor("blk.0.attn_v.weight", MATRIX, source),
        tensor("blk.0.ffn_up.weight", MATRIX, source),
        tensor("blk.1.attn_v.weight", MATRIX, source),
    ]
}

fn with(name: &str, overrides: &[&str]) -> Options {
    let tensor_types = overrides.iter().map(|o| TensorType::parse(o).unwrap()).collect();
    with_overrides(name, Overrides { tensor_types, ..Overrides::default() })
}

fn with_overrides(name: &str, overrides: Overrides) -> Options {
    Options { overrides, ..Options::new(recipe(name)) }
}

fn run(options: &Options, source: &str) -> Result<Vec<Choice>, RecipeError> {
    assign(options, &llama(), &tensors(source))
}

#[test]
fn overrides_count_in_unquantized_file_types_too() {
    let got = run(&with("F16", &["attn_v=q8_0"]), "BF16").unwrap();
    assert_eq!(names(&got), ["F16", "F16", "F32", "Q8_0", "F16", "Q8_0"]);
    assert_eq!(got[3].reason, Reason::Override);
    assert_eq!(got[4].reason, Reason::Base);
}

#[test]
fn the_first_matching_pattern_counts_and_case_does_not() {
    let got = run(&with("Q4_K_S", &[r"BLK\.0\.ATTN_V=Q5_0", r"attn_\D=q6_k"]), "BF16").unwrap();
    assert_eq!(names(&got), ["Q6_K", "Q4_K", "F32", "Q5_0", "Q4_K", "Q6_K"]);
}

#[test]
fn a_class_of_non_digits_stays_one() {
    assert_eq!(
        run(&with("Q4_K_M", &[r"blk\.\D=q8_0"]), "F32").unwrap_err(),
        RecipeError::MatchesNothing { pattern: r"blk\.\D".to_owned() }
    );
}

#[test]
fn patterns_without_effect_are_errors() {
    let kept = run(&with("Q4_K_M", &["norm=q8_0"]), "F32").unwrap_err();
    let expected =
        RecipeError::MatchesOnlyKept { pattern: "norm".to_owned(), tensor: "output_norm.weight".to_owned() };
    assert_eq!(kept, expected);
    let mut left = with("Q4_K_M", &["^output.weight=q8_0"]);
    left.overrides.leave_output_tensor = true;
    assert!(matches!(run(&left, "F32"), Err(RecipeError::MatchesOnlyKept { .. })));
}

#[test]
fn arguments_are_checked() {
    let parse = |text: &str| TensorType::parse(text).unwrap_err();
    for text in ["attn_v", "=q8_0", "attn_v=", ""] {
        assert_eq!(parse(text), RecipeError::MalformedOverride { argument: text.to_owned() });
    }
    assert!(matches!(parse("attn_(v=q8_0"), RecipeError::BadPattern { pattern, .. } if pattern == "attn_(v"));
    assert!(matches!(parse("(?!a)=q8_0"), RecipeError::BadPattern { .. }));
    assert!(matches!(parse("attn_v=q9_9"), RecipeError::UnknownType { name, .. } if name == "q9_9"));
    assert!(matches!(parse("attn_v=i32"), RecipeError::TypeNotYet { name: "I32", .. }));
}

#[test]
fn a_file_of_overrides_is_split_at_white_space() {
    let read = TensorType::parse_file("attn_v=q8_0\n\tffn_.*=q5_k  \r\n").unwrap();
    let pairs: Vec<(&str, &str)> = read.iter().map(|t| (t.pattern(), t.block.name)).collect();
    assert_eq!(pairs, [("attn_v", "Q8_0"), ("ffn_.*", "Q5_K")]);
    assert!(TensorType::parse_file("attn_v=q8_0 ffn").is_err());
    assert!(TensorType::parse_file("").unwrap().is_empty());
}

#[test]
fn types_asked_for_fall_back_too() {
    let all =
        [tensor("token_embd.weight", &[288, 4], "F32"), tensor("blk.0.attn_v.weight", &[100, 4], "F32")];
    let mut options = with("Q8_0", &["attn_v=nvfp4"]);
    options.overrides.token_embedding_type = Some(block("Q4_K"));
    let got = assign(&options, &llama(), &all).unwrap();
    assert_eq!(names(&got), ["Q5_0", "F16"]);
    let fallback = got[0].fallback.as_ref().unwrap();
    assert_eq!(fallback.wanted, block("Q4_K"));
    assert_eq!(fallback.why, "rows of 288 are no multiple of Q4_K's 256");
    assert_eq!(got[1].fallback.as_ref().unwrap().wanted, block("NVFP4"));
}

#[test]
fn types_without_a_fallback_at_the_peer_have_one() {
    let all = [tensor("blk.0.attn_v.weight", &[96, 4], "F32")];
    let got = assign(&Options::new(recipe("Q1_0")), &llama(), &all).unwrap();
    assert_eq!(names(&got), ["Q4_0"]);
    let got = assign(&with("Q8_0", &["attn_v=nvfp4"]), &llama(), &all).unwrap();
    assert_eq!(names(&got), ["IQ4_NL"]);
}

#[test]
fn quantizing_twice_needs_leave() {
    let error = run(&Options::new(recipe("Q4_K_S")), "Q8_0").unwrap_err();
    let expected =
        RecipeError::Requantize { tensor: "output.weight".to_owned(), from: "Q8_0", to: "Q6_K", count: 5 };
    assert_eq!(error, expected);
    let allowed = with_overrides("Q4_K_S", Overrides { allow_requantize: true, ..Overrides::default() });
    assert_eq!(names(&run(&allowed, "Q8_0").unwrap()), ["Q6_K", "Q4_K", "F32", "Q5_K", "Q4_K", "Q5_K"]);
}

#[test]
fn unpacking_counts_as_quantizing_twice() {
    assert!(matches!(run(&Options::new(recipe("F16")), "Q8_0"), Err(RecipeError::Requantize { .. })));
}

#[test]
fn a_tensor_that_has_its_type_already_needs_no_leave() {
    let got = run(&Options::new(recipe("Q8_0")), "Q8_0").unwrap();
    assert_eq!(names(&got), ["Q8_0", "Q8_0", "F32", "Q8_0", "Q8_0", "Q8_0"]);
}

#[test]
fn a_type_that_cannot_be_written_may_still_be_copied() {
    let options = with("Q4_K_M", &["attn_v=q8_0"]);
    let all = [tensor("blk.0.attn_v.weight", MATRIX, "F32"), tensor("blk.0.attn_k.weight", MATRIX, "I32")];
    assert_eq!(names(&assign(&options, &llama(), &all).unwrap()), ["Q8_0", "I32"]);
}

#[test]
fn copy_keeps_everything() {
    let copy = Options::new(file_type("copy").unwrap());
    let got = run(&copy, "Q4_0").unwrap();
    assert_eq!(names(&got), ["Q4_0", "Q4_0", "F32", "Q4_0", "Q4_0", "Q4_0"]);
    assert!(got.iter().all(|c| c.reason == Reason::Kept));
    let mut contradiction = copy;
    contradiction.overrides.output_tensor_type = Some(block("Q8_0"));
    assert_eq!(run(&contradiction, "F32").unwrap_err(), RecipeError::CopyWithTypes);
}

#[test]
fn reasons_tell_rules_from_the_base_type() {
    let got = run(&Options::new(recipe("Q4_K_S")), "F32").unwrap();
    let reasons: Vec<Reason> = got.iter().map(|c| c.reason).collect();
    use Reason::{Base, Kept, Mixture};
    assert_eq!(reasons, [Mixture, Base, Kept, Mixture, Base, Mixture]);
}

#[test]
fn file_types_answer_to_names_aliases_and_numbers() {
    let found = |name: &str| file_type(name).map(|t: &FileType| t.name);
    assert_eq!(found("q4_k_m"), Ok("Q4_K_M"));
    assert_eq!(found("Q4_K"), Ok("Q4_K_M"));
    assert_eq!(found("q5_k"), Ok("Q5_K_M"));
    assert_eq!(found("q3_K"), Ok("Q3_K_M"));
    assert_eq!(found("0"), Ok("F32"));
    assert_eq!(found("38"), Ok("MXFP4_MOE"));
    assert!(matches!(found("Q4_X"), Err(RecipeError::UnknownFileType { .. })));
    assert!(matches!(found("39"), Err(RecipeError::UnknownFileType { .. })));
    let message = file_type("Q4_X").unwrap_err().to_string();
    assert!(
        message.starts_with("unknown file type Q4_X (did you mean Q4_0?); the file types are F32, F16, Q4_0"),
        "{message}"
    );
    assert!(message.contains("COPY"), "{message}");
}

#[test]
fn file_types_of_types_without_an_encoder_are_not_yet() {
    for each in super::FILE_TYPES.iter().filter(|t| t.name.starts_with("IQ")) {
        let can = block(each.base.unwrap()).encode.is_some();
        assert_eq!(file_type(each.name).is_ok(), can, "{}", each.name);
    }
    assert!(block_type("iq4_nl").is_ok());
}

#[test]
fn importance_is_needed_where_the_result_would_be_garbage() {
    let all = tensors("F32");
    let needs = |file_type: &str, source: &[TensorFacts]| -> Vec<bool> {
        let options = Options::new(recipe(file_type));
        let choices = super::super::assign::choose_all(&options, &llama(), source).unwrap();
        source.iter().zip(&choices).map(|(t, c)| needs_importance(options.file_type, t, c)).collect()
    };
    assert_eq!(needs("Q2_K_S", &all), [false, false, false, true, true, true]);
    assert_eq!(needs("Q2_K", &all), [false; 6]);
    assert_eq!(needs("IQ2_XS", &all), [false, false, false, false, true, false]);
    assert_eq!(needs("Q2_K_S", &tensors("Q2_K")), [false; 6]);
}
