"""Numbers about a server in Prometheus' text format. Knows the scheduler's counts; no requests."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from got_train.inference.scheduler import Job, Scheduler

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server; `text` is what a scraper gets."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "got_requests", "Requests by model and status.", ("model", "status"), registry=self.registry
        )
        self.prompt_tokens = Counter("got_prompt_tokens", "Tokens of prompts.", registry=self.registry)
        self.queue_seconds = self._histogram("got_queue_seconds", "Seconds in the queue.")
        self.first_token_seconds = self._histogram("got_first_token_seconds", "Seconds to the first token.")
        self.request_seconds = self._histogram("got_request_seconds", "Seconds to the last token.")
        self.registry.register(_Gauges(scheduler))

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ("model",), buckets=SECONDS, registry=self.registry)

    def ended(self, job: Job) -> None:
        """A reading has its last token."""
        self.prompt_tokens.inc(len(job.reading.prompt.ids))
        for histogram, end in (
            (self.queue_seconds, job.begun),
            (self.first_token_seconds, job.first_token),
            (self.request_seconds, job.ended),
        ):
            if end is not None:
                histogram.labels(job.model).observe(end - job.arrived)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Gauges:
    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        scheduler = self.scheduler
        yield GaugeMetricFamily("got_requests_waiting", "Requests in the queue.", scheduler.waiting)
        yield GaugeMetricFamily("got_requests_running", "Requests being decoded.", scheduler.running)
        yield CounterMetricFamily("got_generated_tokens", "Tokens of answers.", scheduler.tokens)
        yield CounterMetricFamily("got_decoding_steps", "Steps of all batches.", scheduler.steps)
