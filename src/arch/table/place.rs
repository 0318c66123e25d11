//! Layer and part numbers in tensor names.

/// The placeholder of a number in tables.
pub(in crate::arch) const LAYER: &str = "{}";

/// The numbers in a tensor's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::arch) struct Place {
    pub(in crate::arch) layer: Option<u32>,
    /// Number of the expert or head.
    pub(in crate::arch) part: Option<u32>,
}

impl Place {
    pub(in crate::arch) const FIRST: Self = Self { layer: None, part: None };
    pub(in crate::arch) const LAST: Self = Self { layer: Some(u32::MAX), part: Some(u32::MAX) };

    /// Returns the name that `pattern` gives with these numbers.
    pub(in crate::arch) fn name(self, pattern: &str) -> String {
        let numbers = [self.layer, self.part].into_iter().flatten();
        numbers.fold(pattern.to_owned(), |name, number| name.replacen(LAYER, &number.to_string(), 1))
    }
}

/// Splits layer and part off a name: they are the first two components that are numbers without leading zeros.
pub(in crate::arch) fn pattern(name: &str) -> (String, Place) {
    let mut place = Place::FIRST;
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| match part.parse::<u32>() {
            Ok(number) if place.part.is_none() && number.to_string() == part => {
                let free = if place.layer.is_none() { &mut place.layer } else { &mut place.part };
                *free = Some(number);
                LAYER
            }
            _ => part,
        })
        .collect();
    (parts.join("."), place)
}
