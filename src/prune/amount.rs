//! The number of channels or experts that are kept.

use std::fmt;
use std::str::FromStr;

use super::PruneError;

/// The number of channels or experts that are kept in each layer, as a user gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// This number is kept.
    Number(u64),
    /// This share is cut, in percent.
    CutPercent(f64),
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is neither a share to cut, such as 25%, nor a number to keep, such as 1280");
        match text.strip_suffix('%') {
            Some(share) => {
                let share: f64 = share.trim().parse().map_err(|_| wrong())?;
                if share > 0.0 && share < 100.0 { Ok(Self::CutPercent(share)) } else { Err(wrong()) }
            }
            None => text.parse().map(Self::Number).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(channels) => write!(f, "{channels}"),
            Self::CutPercent(share) => write!(f, "{share}%"),
        }
    }
}

impl Amount {
    /// Returns the number of channels that are kept of `channels`: a multiple of 256 if `channels` is one above 1024, so that
    /// rows have whole superblocks, else of 32. A share is rounded to the nearest such width.
    ///
    /// # Errors
    /// Fails when the width is none of these or nothing would be cut.
    pub fn kept(self, channels: u64) -> Result<u64, PruneError> {
        // Up to 1024 channels a step of 256 would be a quarter of them or more.
        let step = if channels.is_multiple_of(256) && channels > 1024 { 256 } else { 32 };
        let wanted = match self {
            Self::Number(kept) => kept,
            Self::CutPercent(share) => (channels as f64 * (1.0 - share / 100.0)).round() as u64,
        };
        let most = (channels.saturating_sub(1) / step * step).max(step);
        let near = ((wanted.saturating_add(step / 2)) / step * step).clamp(step, most);
        let what = match self {
            _ if channels <= step => "the model has too few channels",
            Self::CutPercent(_) => return Ok(near),
            Self::Number(kept) if kept >= channels => "nothing would be cut",
            Self::Number(kept) if kept == 0 || kept % step != 0 => "no such width",
            Self::Number(kept) => return Ok(kept),
        };
        Err(PruneError::Width { asked: self.to_string(), what, step, channels, near })
    }

    /// Returns the number of experts that are kept of `experts`: a multiple of `groups`, and at least `least`. A share is rounded to the
    /// nearest such number.
    ///
    /// # Errors
    /// Fails when the number is none of these or nothing would be cut.
    pub fn experts(self, experts: u64, groups: u64, least: u64) -> Result<u64, PruneError> {
        let least = least.next_multiple_of(groups).max(groups);
        let most = experts - groups;
        let wrong = |what| PruneError::ExpertCount { asked: self.to_string(), what, experts, groups, least };
        match self {
            _ if most < least => Err(wrong("the model has too few experts")),
            Self::CutPercent(share) => {
                let wanted = experts as f64 * (1.0 - share / 100.0) / groups as f64;
                Ok((wanted.round() as u64 * groups).clamp(least, most))
            }
            Self::Number(kept) if kept >= experts => Err(wrong("nothing would be cut")),
            Self::Number(kept) if kept < least || kept % groups != 0 => Err(wrong("no such number")),
            Self::Number(kept) => Ok(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_and_widths_are_checked() {
        let kept = |text: &str, channels: u64| text.parse::<Amount>().unwrap().kept(channels).ok();
        assert_eq!(kept("25%", 1536), Some(1280));
        assert_eq!(kept("25%", 768), Some(576));
        assert_eq!(kept("1%", 2048), Some(1792));
        assert_eq!(kept("99.9%", 2048), Some(256));
        assert_eq!(kept("640", 768), Some(640));
        for (width, channels) in [("640", 2048), ("2048", 2048), ("0", 768), ("768", 768), ("25%", 32)] {
            assert_eq!(kept(width, channels), None, "{width} of {channels}");
        }
        for wrong in ["", "%", "0%", "100%", "-3", "nan%", "1.5"] {
            assert!(wrong.parse::<Amount>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn experts_are_left_in_equal_groups() {
        let left = |text: &str, experts, groups, least| {
            text.parse::<Amount>().unwrap().experts(experts, groups, least).map_err(|e| e.to_string())
        };
        assert_eq!(left("25%", 128, 1, 8), Ok(96));
        assert_eq!(left("25%", 6, 1, 2), Ok(5));
        assert_eq!(left("25%", 64, 8, 32), Ok(48));
        assert_eq!(left("99%", 64, 8, 32), Ok(32));
        assert_eq!(left("1%", 64, 8, 32), Ok(56));
        assert_eq!(left("40", 64, 8, 32), Ok(40));
        for (text, experts, groups, least) in
            [("41", 64, 8, 1), ("64", 64, 8, 1), ("24", 64, 8, 32), ("25%", 4, 2, 4)]
        {
            let error = left(text, experts, groups, least).unwrap_err();
            assert!(error.contains(&format!("multiples of {groups}")), "{error}");
        }
    }

    #[test]
    fn the_error_names_a_width_that_is_possible() {
        let error = Amount::Number(600).kept(2048).unwrap_err().to_string();
        assert!(error.contains("multiples of 256 below 2048, such as 512"), "{error}");
    }
}
