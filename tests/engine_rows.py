"""What an engine of the data tools makes of its first pages: rows, or the causes of rejection."""

from data_tools import produce


def made(engine, count):
    found = []
    if isinstance(engine, produce.InBatches):  # as produce does it; else a batch of 250 is drawn for a few
        engine.expect(range(count))
    for index in range(count):
        try:
            found += engine.rows(index, produce.generator(engine.seed, engine.name, index, 0))
        except produce.Rejected as rejected:
            found.append(rejected.cause)
    return found
