"""Features under a mask that is not multiplied in give a model what the masked features themselves would."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import Linear
from torch_geometric.utils import softmax, to_dense_batch

from gnn_xai.core.inputs.features import (
    Columns,
    Features,
    MaskedFeatures,
    by_column,
    by_row,
    by_value,
    plain,
    structure,
)
from tests.covering import every_value

NODES, WIDTH = 9, 20
NODE = torch.tensor([4, 0, 8, 4, 2, 7])  # of a union: out of order, some twice, some not at all


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def features(share: float, *shape: int, dtype: torch.dtype = torch.float64) -> Features:
    """Features of which a share is not 0, and the second row holds nothing else."""
    x = random(0, *(shape or (NODES, WIDTH)), dtype=dtype)
    x = x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < share)
    x[2] = 0
    return Features(x)


def rowwise(share: float) -> Callable[[], tuple[Tensor, MaskedFeatures, Tensor]]:
    def make() -> tuple[Tensor, MaskedFeatures, Tensor]:
        of, mask = features(share), random(2, len(NODE)).requires_grad_()
        return mask, by_row(of, NODE, mask), of.x[NODE] * mask.unsqueeze(1)

    return make


def valuewise(share: float) -> Callable[[], tuple[Tensor, MaskedFeatures, Tensor]]:
    def make() -> tuple[Tensor, MaskedFeatures, Tensor]:
        of = features(share)
        csr, values = structure(of, NODE)
        mask = random(3, len(values)).requires_grad_()
        dense = torch.zeros(len(NODE), WIDTH, dtype=of.x.dtype).index_put((csr.row, csr.col), values * mask)
        return mask, by_value(of, NODE, csr, values * mask), dense

    return make


def columnwise() -> tuple[Tensor, MaskedFeatures, Tensor]:
    """Three instances, the rows of which share a mask on features; some rows are not masked."""
    of, owner = features(0.9), torch.tensor([0, 2, 0, 1, 0, 2])
    fixed = torch.tensor([False, False, True, False, False, True])
    mask = random(6, 3, WIDTH).requires_grad_()
    factor = torch.where(fixed.unsqueeze(1), 1.0, mask[owner])
    return mask, by_column(of, NODE, Columns(of, NODE, owner, fixed, 3), mask), of.x[NODE] * factor


KINDS = {
    "column": columnwise,
    "row": rowwise(0.9),
    "row_sparse": rowwise(0.1),
    "value": valuewise(0.9),
    "value_sparse": valuewise(0.1),
}

LINEAR = nn.Linear(WIDTH, 3).double()
NO_BIAS = nn.Linear(WIDTH, 3, bias=False).double()
PYG = Linear(WIDTH, 4).double()
WEIGHT = random(4, WIDTH, 5)
NET = nn.Sequential(nn.Dropout(0.5), nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
NORM = nn.BatchNorm1d(WIDTH).double().eval()


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x.relu() * 2.0 + x[:1]


def _in_place(x: Tensor) -> Tensor:
    x += 1
    return x


def _attention(x: Tensor) -> Tensor:
    return softmax(x.sum(1), torch.tensor([0, 0, 1, 1, 2, 2]))


USES: dict[str, Callable[[Tensor], Tensor]] = {
    "functional.linear": lambda x: functional.linear(x, WEIGHT.t()),
    "functional.linear with names": lambda x: functional.linear(input=x, weight=WEIGHT.t(), bias=WEIGHT[0]),
    "functional.linear and a bias": lambda x: functional.linear(x, WEIGHT.t(), WEIGHT[0]),
    "nn.Linear": LINEAR,
    "nn.Linear without bias": NO_BIAS,
    "PyG's Linear": PYG,
    "twice": lambda x: LINEAR(x) * NO_BIAS(x),
    "dropout": lambda x: LINEAR(functional.dropout(x, 0.5, training=False)),
    "dropout by place": lambda x: LINEAR(functional.dropout(x, 0.5, False)),
    "modules": NET,
    "batch normalisation": NORM,
    "relu": lambda x: x.relu(),
    "relu in place": lambda x: functional.relu(x, inplace=True),
    "added in place": _in_place,
    "cat": lambda x: torch.cat([x, 2 * x], dim=1),
    "stack": lambda x: torch.stack((x, x.sigmoid())),
    "matmul": lambda x: x @ WEIGHT,
    "matmul from the left": lambda x: torch.matmul(WEIGHT.t(), x.t()),
    "mm": lambda x: torch.mm(x, WEIGHT),
    "addmm": lambda x: torch.addmm(WEIGHT[:1], x, WEIGHT),
    "einsum": lambda x: torch.einsum("nf,fo->on", x, WEIGHT),
    "row": lambda x: x[3],
    "rows": lambda x: x[torch.tensor([5, 1])],
    "rows of a mask": lambda x: x[torch.tensor([True, False, True, True, False, False])],
    "columns": lambda x: x[:, 2:7],
    "index_select": lambda x: x.index_select(0, torch.tensor([0, 0, 4])),
    "index_add": lambda x: torch.zeros(2, WIDTH).double().index_add(0, torch.tensor([0, 1, 0, 1, 1, 0]), x),
    "sum": lambda x: x.sum(0),
    "norm": lambda x: functional.normalize(x + 1, dim=-1),
    "view": lambda x: x.view(-1, 2, WIDTH // 2),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "transpose": lambda x: x.t(),
    "clone": lambda x: x.clone(),
    "times": lambda x: 2 * x * x,
    "minus": lambda x: 1 - x,
    "where": lambda x: torch.where(x > 0, x, -x),
    "chunk": lambda x: x.chunk(2, dim=1)[1],
    "split": lambda x: torch.split(x, [2, 4])[1],
    "new_zeros": lambda x: x.new_zeros(3) + x[0, :3],
    "zeros_like": lambda x: torch.zeros_like(x) + x,
    "attention": _attention,
    "dense batch": lambda x: to_dense_batch(x, torch.tensor([0, 0, 0, 1, 1, 1]))[0],
    "list of rows": lambda x: torch.stack([row.sum() for row in x]),
    "linear of another layer's rows": lambda x: LINEAR(x[:4]),
    "input of autograd": lambda x: torch.utils.checkpoint.checkpoint(LINEAR, x + 0, use_reentrant=False),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("use", list(USES))
def test_equal_to_the_dense_features(use: str, kind: str) -> None:
    mask, lazy, dense = KINDS[kind]()
    found, expected = USES[use](lazy), USES[use](dense.clone())
    assert type(found) is Tensor
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    direction = random(5, *expected.shape)
    (found,) = torch.autograd.grad((found * direction).sum(), mask)
    (expected,) = torch.autograd.grad((expected * direction).sum(), mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_nothing_reads_them_where_the_gradient_would_be_lost() -> None:
    _, lazy, _ = KINDS["row"]()
    with pytest.raises(RuntimeError, match="TorchScript"):
        scripted(lazy)


@pytest.mark.parametrize("kind", list(KINDS))
def test_looks_like_a_tensor(kind: str) -> None:
    _, lazy, dense = KINDS[kind]()
    assert isinstance(lazy, Tensor)
    assert lazy.shape == dense.shape
    assert (lazy.size(0), lazy.size(-1), lazy.dim(), lazy.ndim) == (len(NODE), WIDTH, 2, 2)
    assert (lazy.dtype, lazy.device, lazy.layout) == (dense.dtype, dense.device, dense.layout)
    assert len(lazy) == len(NODE)
    assert lazy.numel() == dense.numel()
    assert lazy.is_floating_point()
    assert not lazy.is_sparse
    assert lazy.requires_grad == dense.requires_grad


@every_value(count=[0, 1, 4, 6], kind=list(KINDS))
def test_first_rows(kind: str, count: int) -> None:
    mask, lazy, dense = KINDS[kind]()
    some, expected = lazy.rows(count), dense[:count]
    assert some.shape == expected.shape
    torch.testing.assert_close(some + 0, expected)
    torch.testing.assert_close(LINEAR(some), LINEAR(expected))
    if count:
        (found,) = torch.autograd.grad(LINEAR(some).square().sum(), mask)
        (wanted,) = torch.autograd.grad(LINEAR(expected).square().sum(), mask)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [[3, 0, 200], [70, 90, 80]])
def test_masks_that_an_instance_shares_multiply_weights(rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are many rows for each mask, of instances of any size."""
    of = features(0.9, 500, 64)
    owner = torch.repeat_interleave(torch.arange(3), torch.tensor(rows))
    node = torch.arange(len(owner)).flip(0)
    fixed = torch.arange(len(owner)) % 7 == 0
    mask, layer = random(6, 3, 64).requires_grad_(), nn.Linear(64, 5).double()
    columns = Columns(of, node, owner, fixed, 3)
    assert columns.pays(5)
    dense = of.x[node] * torch.where(fixed.unsqueeze(1), 1.0, mask[owner])
    expected, lazy = layer(dense), by_column(of, node, columns, mask)
    monkeypatch.setattr(MaskedFeatures, "dense", None)
    found = layer(lazy)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    one, other = (torch.autograd.grad(out.square().sum(), mask)[0] for out in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_without_a_mask() -> None:
    of = features(0.5)
    lazy = plain(of, NODE)
    torch.testing.assert_close(lazy.dense(), of.x[NODE])
    torch.testing.assert_close(LINEAR(lazy), LINEAR(of.x[NODE]))
    torch.testing.assert_close(LINEAR(lazy.rows(2)), LINEAR(of.x[NODE[:2]]))


def test_linear_layers_never_see_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the class is for: no row is written out, and the product of all nodes is made once for a weight."""
    made = []
    kinds = {kind: KINDS[kind]() for kind in ("row", "row_sparse", "value_sparse")}
    monkeypatch.setattr(MaskedFeatures, "dense", lambda self: made.append(self))
    for kind, (_, lazy, dense) in kinds.items():
        for layer in (LINEAR, PYG, NET):
            torch.testing.assert_close(layer(lazy), layer(dense), rtol=1e-12, atol=1e-12)
        if kind.startswith("row"):
            assert lazy.features.product(LINEAR.weight) is lazy.features.product(LINEAR.weight)
    assert not made


def test_products_belong_to_their_weight() -> None:
    of = features(0.9)
    layers = [nn.Linear(WIDTH, 3).double() for _ in range(3)]
    for _ in range(2):
        for layer in layers:
            torch.testing.assert_close(layer(plain(of, NODE)), layer(of.x[NODE]))
    for seed in range(6):  # tensors that are no parameters come and go, and may get the id of one that went
        weight = random(seed, 3, WIDTH)
        torch.testing.assert_close(functional.linear(plain(of, NODE), weight), of.x[NODE] @ weight.t())
        del weight


def test_products_follow_their_weight() -> None:
    of, layer = features(0.9), nn.Linear(WIDTH, 3).double()
    layer(plain(of, NODE))
    with torch.no_grad():
        layer.weight *= 2
    torch.testing.assert_close(layer(plain(of, NODE)), layer(of.x[NODE]))
    layer.weight.data = random(1, 3, WIDTH)
    torch.testing.assert_close(layer(plain(of, NODE)), layer(of.x[NODE]))
    with torch.inference_mode():
        layer.weight = nn.Parameter(random(2, 3, WIDTH))  # one that counts no changes
        layer(plain(of, NODE))
        layer.weight *= 2
        torch.testing.assert_close(layer(plain(of, NODE)), layer(of.x[NODE]))


def test_pickled_features_are_the_same() -> None:
    of, layer = features(0.9), nn.Linear(WIDTH, 3).double()
    expected = layer(plain(of, NODE))
    assert torch.equal(layer(plain(pickle.loads(pickle.dumps(of)), NODE)), expected)


def test_sparse_means_few_values_of_many() -> None:
    assert features(0.1).sparse
    assert not features(0.9).sparse
    assert not features(0.1, NODES, 8).sparse  # too narrow to pay
    assert not features(0.1, NODES, 20, 2).sparse
    assert not Features(torch.zeros(0, 20)).sparse


def test_three_dimensions() -> None:
    of, mask = features(0.9, NODES, 4, WIDTH), random(2, len(NODE)).requires_grad_()
    lazy, dense = by_row(of, NODE, mask), of.x[NODE] * mask.reshape(-1, 1, 1)
    csr, values = structure(of, NODE)
    assert csr.num_cols == 4 * WIDTH
    torch.testing.assert_close(by_value(of, NODE, csr, values).dense(), of.x[NODE])
    for use in (LINEAR, lambda x: x.mean(1), lambda x: x.transpose(0, 1), lambda x: x[:, 0]):
        torch.testing.assert_close(use(lazy), use(dense))
        found, expected = (torch.autograd.grad(use(x).square().sum(), mask, retain_graph=True) for x in (lazy, dense))
        torch.testing.assert_close(found, expected)


def test_one_dimension() -> None:
    """One number a node, `[N]`."""
    of, mask = Features(random(0, NODES)), random(2, len(NODE))
    torch.testing.assert_close(by_row(of, NODE, mask) * 2, 2 * of.x[NODE] * mask)
    csr, values = structure(of, NODE)
    torch.testing.assert_close(by_value(of, NODE, csr, values).dense(), of.x[NODE])


@pytest.mark.parametrize("kind", [by_row, by_value])
def test_single_precision(kind: Callable[..., MaskedFeatures]) -> None:
    of = features(0.1, dtype=torch.float32)
    csr, values = structure(of, NODE)
    mask = random(2, len(NODE), dtype=torch.float32)
    lazy = by_row(of, NODE, mask) if kind is by_row else by_value(of, NODE, csr, values * mask[csr.row])
    layer = nn.Linear(WIDTH, 3)
    assert layer(lazy).dtype == torch.float32
    torch.testing.assert_close(layer(lazy), layer(of.x[NODE] * mask.unsqueeze(1)), rtol=1e-5, atol=1e-5)
