//! Allocations over small models.

use kquant_kernels::block::by_name;

use super::*;
use crate::recipe::{Price, PriceOrigin, PriceUnit, Reason, TensorPrices, TensorType};

const SHAPE: [u64; 2] = [512, 64];

fn facts() -> Vec<TensorFacts<'static>> {
    let f16 = by_name("F16").unwrap();
    let names = ["output_norm.weight", "token_embd.weight", "blk.0.ffn_up.weight", "blk.1.ffn_up.weight"];
    let shape = |name: &str| if name.contains("norm") { &SHAPE[..1] } else { &SHAPE[..] };
    names.iter().map(|name| TensorFacts { name, shape: shape(name), source: f16 }).collect()
}

/// Prices that halve with every bit, times what an error of the tensor costs.
fn prices(facts: &[TensorFacts]) -> PriceList {
    let tensor = |(t, scale): (&TensorFacts, f64)| TensorPrices {
        name: t.name.to_owned(),
        shape: t.shape.to_vec(),
        prices: ["Q2_K", "Q3_K", "Q4_K", "Q6_K", "Q8_0", "IQ4_NL"]
            .iter()
            .map(|kind| {
                let block = by_name(kind).unwrap();
                let bytes = block.row_bytes(SHAPE[0]).unwrap() * SHAPE[1];
                Price {
                    kind: (*kind).to_owned(),
                    bytes,
                    cost: Some(scale * 0.25f64.powf(block.bits_per_weight())),
                }
            })
            .collect(),
    };
    let priced = facts.iter().filter(|t| t.shape.len() > 1).zip([1.0, 8.0, 0.25]);
    PriceList {
        version: crate::recipe::PRICES_VERSION,
        origin: PriceOrigin {
            unit: PriceUnit::Nats,
            encoder: "ggml".into(),
            both_sides: false,
            datasets: vec!["text".into()],
            tokens: 1000,
        },
        tensors: priced.map(tensor).collect(),
    }
}

fn allocation(target: Target, menu: &str, overrides: &[&str]) -> Allocation {
    let tensor_types = overrides.iter().map(|o| TensorType::parse(o).unwrap()).collect();
    Allocation {
        target,
        menu: Menu::parse(menu).unwrap(),
        prices: prices(&facts()),
        repaired: false,
        overrides: Overrides { tensor_types, ..Overrides::default() },
    }
}

const MENU: &str = "Q2_K,Q3_K,Q4_K,Q6_K,Q8_0";

fn solved(allocation: &Allocation) -> Result<Allocated, RecipeError> {
    let facts = facts();
    let market = Market::new(allocation, &ModelFacts::default(), &facts, (1000, 32))?;
    market.allocate()
}

fn names(allocated: &Allocated) -> Vec<&'static str> {
    allocated.choices.iter().map(|c| c.block.name).collect()
}

#[test]
fn dear_tensors_get_more_bits() {
    let allocated = solved(&allocation(Target::BitsPerWeight(4.5), MENU, &[])).unwrap();
    let bits: Vec<f64> = allocated.choices.iter().map(|c| c.block.bits_per_weight()).collect();
    assert!(bits[2] > bits[1] && bits[1] > bits[3], "{:?}", names(&allocated));
    assert_eq!((allocated.choices[0].block.name, allocated.choices[0].reason), ("F16", Reason::Kept));
    assert!(allocated.bound <= allocated.cost);
    let costs: f64 = allocated.costs.iter().flatten().sum();
    assert!((costs - allocated.cost).abs() < 1e-15);
}

#[test]
fn the_bytes_of_the_file_stay_within_the_target() {
    let weights = SHAPE[0] * SHAPE[1];
    let all = |name: &str| 3 * by_name(name).unwrap().row_bytes(SHAPE[0]).unwrap() * SHAPE[1] + 1000 + 1024;
    for bytes in [all("Q2_K"), all("Q3_K") + 7, all("Q4_K"), all("Q6_K") - 1, all("Q8_0")] {
        let allocated = solved(&allocation(Target::Size(bytes), MENU, &[])).unwrap();
        assert!(allocated.bytes <= bytes && allocated.bytes + weights / 4 > bytes, "{bytes}");
    }
    assert_eq!(solved(&allocation(Target::Size(all("Q2_K")), MENU, &[])).unwrap().file_type.name, "Q2_K");
}

#[test]
fn sizes_that_the_menu_cannot_make_are_refused_with_both_ends() {
    for target in [Target::Size(1000), Target::BitsPerWeight(1.0), Target::BitsPerWeight(f64::NAN)] {
        let error = solved(&allocation(target, MENU, &[])).unwrap_err().to_string();
        assert!(error.contains(" to ") && error.contains("menu"), "{error}");
    }
    let error = solved(&allocation(Target::PredictedKl(0.0), MENU, &[])).unwrap_err().to_string();
    assert!(error.contains("nats"), "{error}");
}

#[test]
fn more_room_than_the_menu_can_fill_gives_its_best_file() {
    let of = |target: Target| solved(&allocation(target, MENU, &[])).unwrap();
    let largest = of(Target::BitsPerWeight(14.0));
    assert_eq!(names(&largest)[1..], ["Q8_0", "Q8_0", "Q8_0"]);
    let unneeded = of(Target::Size(largest.bytes + 5)).unneeded;
    assert_eq!((unneeded, of(Target::Size(largest.bytes)).unneeded), (5, 0));
}

#[test]
fn the_smallest_file_below_a_divergence_is_found() {
    let sizes = |nats: f64| solved(&allocation(Target::PredictedKl(nats), MENU, &[])).unwrap();
    let (coarse, fine) = (sizes(0.05), sizes(0.001));
    assert!(coarse.cost <= 0.05 && fine.cost <= 0.001 && coarse.bytes < fine.bytes);
    let cheaper = solved(&allocation(Target::Size(fine.bytes - 1), MENU, &[])).unwrap();
    assert!(cheaper.cost > 0.001, "{}", cheaper.cost);
}

#[test]
fn named_types_hold_and_keep_their_price() {
    let allocated = solved(&allocation(Target::BitsPerWeight(5.0), MENU, &["blk.1=IQ4_NL"])).unwrap();
    assert_eq!((names(&allocated)[3], allocated.choices[3].reason), ("IQ4_NL", Reason::Override));
    assert!(allocated.costs[3].is_some());
    // F32 was not priced.
    let allocated = solved(&allocation(Target::BitsPerWeight(14.0), MENU, &["blk.1=F32"])).unwrap();
    assert_eq!((names(&allocated)[3], allocated.costs[3]), ("F32", None));
}

#[test]
fn types_without_prices_and_other_models_are_refused() {
    let error = solved(&allocation(Target::BitsPerWeight(5.0), "Q4_K,Q5_K", &[])).unwrap_err().to_string();
    assert!(error.contains("Q5_K") && error.contains("token_embd.weight"), "{error}");
    let mut other = allocation(Target::BitsPerWeight(5.0), MENU, &[]);
    other.prices.tensors[1].shape[1] = 65;
    let error = solved(&other).unwrap_err().to_string();
    assert!(error.contains("another model") && error.contains("blk.0.ffn_up.weight"), "{error}");
    let mut relative = allocation(Target::PredictedKl(0.1), MENU, &[]);
    relative.prices.origin.unit = PriceUnit::RelativeError;
    assert_eq!(solved(&relative).unwrap_err(), RecipeError::NoDivergence);
}

#[test]
fn price_lists_are_read_as_written_and_checked() {
    let list = prices(&facts());
    let text = serde_json::to_string(&list).unwrap();
    assert_eq!(PriceList::parse(&text).unwrap(), list);
    for (from, to) in
        [("\"version\":1", "\"version\":2"), ("\"cost\":", "\"cost\":-"), ("{\"version\"", "{\"v\"")]
    {
        assert!(
            matches!(PriceList::parse(&text.replacen(from, to, 1)), Err(RecipeError::Prices { .. })),
            "{to}"
        );
    }
}

#[test]
fn types_that_are_ruled_out_are_not_chosen() {
    let mut allocation = allocation(Target::BitsPerWeight(3.2), MENU, &[]);
    for price in
        allocation.prices.tensors[0].prices.iter_mut().filter(|p| p.kind == "Q2_K" || p.kind == "Q3_K")
    {
        price.cost = None;
    }
    let ends = solved(&allocation).unwrap_err().to_string();
    assert!(ends.contains("bits per weight"), "{ends}");
    allocation.target = Target::BitsPerWeight(3.8);
    assert_eq!(names(&solved(&allocation).unwrap())[1], "Q4_K");
}

#[test]
fn a_curve_falls_and_names_what_is_dominated() {
    let allocation = allocation(Target::Size(0), MENU, &[]);
    let facts = facts();
    let market = Market::new(&allocation, &ModelFacts::default(), &facts, (1000, 32)).unwrap();
    let curve = market.curve(12);
    assert!(curve.len() > 6);
    assert!(curve.windows(2).all(|pair| pair[0].bytes < pair[1].bytes && pair[0].cost > pair[1].cost));
    let points = market.file_types(&ModelFacts::default());
    let point = |name: &str| points.priced.iter().find(|p| p.name == name).unwrap();
    // The dear tensor is the first layer's, which no mixture spends more on.
    assert!(points.priced.iter().all(|p| p.best.is_none_or(|best| best <= p.cost)));
    assert!(point("Q4_K_S").dominated_by.is_none() && points.unpriced.contains(&"IQ1_S"));
    let q8 = point("Q8_0");
    assert!(q8.best.is_some_and(|best| (best / q8.cost - 1.0).abs() < 1e-9));
}
