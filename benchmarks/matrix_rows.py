"""What a CPU's matrix products gain from company, and whether company changes a row.

    python benchmarks/matrix_rows.py

For the demo model's shapes: GFLOP/s by number of rows, and the numbers of rows for which a row's product is not bit for bit
what it is among 1,000.
"""

import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = ((192, 576), (192, 192), (192, 768), (768, 192), (192, 2048))
ROWS = (1, 2, 5, 9, 16, 17, 33, 47, 64, 128, 333, 700, 1000)


def rate(x: torch.Tensor, weight: torch.Tensor, rounds: int = 30) -> float:
    """GFLOP/s, by the median."""
    F.linear(x, weight)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        F.linear(x, weight)
        times.append(time.perf_counter() - began)
    return 2 * len(x) * weight.numel() / statistics.median(times) / 1e9


def main() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.randn(768, 192).to(dtype)
        rates = (f"{rows}: {rate(torch.randn(rows, 192).to(dtype), weight):.0f}" for rows in (1, 47, 700, 2048))
        print(f"{dtype}, GFLOP/s by rows: {', '.join(rates)}")
        differ = set()
        for width, out in SHAPES:
            weight, x = torch.randn(out, width).to(dtype), torch.randn(1000, width).to(dtype)
            every = F.linear(x, weight)
            differ |= {rows for rows in ROWS if not torch.equal(F.linear(x[:rows], weight), every[:rows])}
        print(f"{dtype}, rows for which a product differs: {sorted(differ) or 'none'}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
