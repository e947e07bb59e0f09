"""Looking closer: one answer, a needle in a stream, order and place of what was shown, frames that nobody may see."""
