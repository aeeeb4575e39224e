"""The spaces that benchmarks have tables of, by name."""

from vaenas.spaces.macro import macro_space
from vaenas.spaces.nasbench101 import nasbench101_space
from vaenas.spaces.nasbench201 import nasbench201_space
from vaenas.spaces.space import SearchSpace

BENCHMARK_SPACES: dict[str, SearchSpace] = {
    space.name: space for space in (nasbench101_space(), nasbench201_space(), macro_space())
}
