"""What candidates cost, from rounds made by hand."""

from harness.records import BatchPoint
from reports.verdict.costs import batch_throughput


def test_throughput_counts_the_images_of_a_batch() -> None:
    points = [BatchPoint(batch_size=1, seconds=(0.5, 0.5, 9.0), readings=()),
              BatchPoint(batch_size=4, seconds=(1.0,), readings=())]
    assert batch_throughput(points) == {1: 2.0, 4: 4.0}
