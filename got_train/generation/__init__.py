"""From the model's scores to tokens: decoding, the cache, beams, rules against repetition."""
