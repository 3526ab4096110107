"""The numbers of one version, counted as Triton counts them."""

from ortolan.execution.model_statistics import Duration, ExecutionTimes, FailureReason, ModelStatistics

TIMES = ExecutionTimes(start_ns=100, input_end_ns=110, output_start_ns=140, end_ns=145)


def test_the_stages_of_an_execution_follow_one_another() -> None:
    assert (TIMES.input_ns, TIMES.infer_ns, TIMES.output_ns) == (10, 30, 5)


def test_nothing_has_happened_at_first() -> None:
    statistics = ModelStatistics()
    assert (statistics.inference_count, statistics.execution_count, statistics.last_inference_ms) == (0, 0, 0)
    assert statistics.success == statistics.fail == Duration(0, 0)
    assert statistics.failures == dict.fromkeys(FailureReason, 0)
    assert statistics.batches == {}


def test_executions_are_counted_by_their_rows() -> None:
    statistics = ModelStatistics()
    for rows in (1, 4, 4):
        statistics.count_execution(rows, TIMES)
    assert statistics.execution_count == 3
    assert {rows: batch.compute_infer for rows, batch in statistics.batches.items()} == {
        1: Duration(1, 30),
        4: Duration(2, 60),
    }
    assert statistics.batches[4].compute_input == Duration(2, 20)
    assert statistics.batches[4].compute_output == Duration(2, 10)
    assert statistics.inference_count == 0  # rows are counted with the requests that bring them


def test_each_request_of_a_batch_has_the_batchs_times() -> None:
    statistics = ModelStatistics()
    statistics.count_success(3, 7, TIMES)
    statistics.count_success(1, 9, TIMES)
    assert statistics.inference_count == 4
    assert statistics.queue == Duration(2, 16)
    assert statistics.compute_input == Duration(2, 20)
    assert statistics.compute_infer == Duration(2, 60)
    assert statistics.compute_output == Duration(2, 10)


def test_an_answer_counts_its_whole_duration_and_when_it_was() -> None:
    statistics = ModelStatistics()
    statistics.count_answer(500, 1_700_000_000_123)
    assert statistics.success == Duration(1, 500)
    assert statistics.last_inference_ms == 1_700_000_000_123


def test_a_failure_counts_as_a_failure_only() -> None:
    statistics = ModelStatistics()
    statistics.count_failure(50, FailureReason.REJECTED)
    statistics.count_failure(70, FailureReason.REJECTED)
    assert statistics.fail == Duration(2, 120)
    assert statistics.failures[FailureReason.REJECTED] == 2
    assert sum(statistics.failures.values()) == 2
    assert statistics.success == statistics.queue == Duration(0, 0)
    assert statistics.last_inference_ms == 0
