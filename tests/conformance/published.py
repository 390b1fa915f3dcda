"""Models from PyPI packages as their READMEs build and call them, small where a constructor takes sizes.

The packages are in `requirements/published.txt` and not in neve's own environment: each is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim


@dataclass(frozen=True)
class Published:
    """model, the arguments of a call at a size, two sizes, and what of these varies (as to torch.export)."""

    model: nn.Module
    call: Callable[[int], tuple[Any, ...]]
    sizes: tuple[int, int]
    dynamic: Any = None
    method: str = "forward"


@dataclass(frozen=True)
class Entry:
    """varies: what differs between the two sizes; instead: what to do about a refusal."""

    name: str
    package: str
    kind: str
    varies: str
    make: Callable[[], Published]
    instead: str = ""


ENTRIES: dict[str, Entry] = {}


def published(package: str, kind: str, varies: str, instead: str = "") -> Callable[..., Any]:
    """Of a function that makes the model; package: as PyPI names it; the rest as of Entry."""

    def add(make: Callable[[], Published]) -> Callable[[], Published]:
        ENTRIES[make.__name__] = Entry(make.__name__, package, kind, varies, make, instead)
        return make

    return add


def tokens(vocabulary: int, n: int) -> Tensor:
    return torch.randint(0, vocabulary, (2, n))


# Audio.


@published("snac", "audio", "samples", "an artifact for one length, without dynamic_shapes")
def snac() -> Published:
    from snac import SNAC

    model = SNAC(24000, 16, [2, 4, 8, 8], None, 256, [8, 8, 4, 2], None, 256, 8, [4, 2, 1])
    length = Dim("length", min=512, max=65536)
    return Published(model, lambda n: (torch.randn(1, 1, n),), (9000, 12345), [{2: length}], "encode")


@published("conformer", "audio", "frames")
def conformer() -> Published:
    from conformer import Conformer

    model = Conformer(dim=64, depth=2, dim_head=16, heads=4)
    return Published(model, lambda n: (torch.randn(2, n, 64),), (40, 63), [{1: Dim("t", min=1, max=400)}])


@published("openai-whisper", "audio", "tokens")
def whisper() -> Published:
    from whisper.model import ModelDimensions, Whisper

    model = Whisper(ModelDimensions(80, 100, 64, 4, 2, 1000, 64, 64, 4, 2))
    dynamic = [None, {1: Dim("tokens", min=1, max=64)}]
    return Published(model, lambda n: (torch.randn(2, 80, 200), tokens(1000, n)), (9, 30), dynamic)


# Tables.


@published("rtdl-revisiting-models", "tabular", "rows")
def rtdl() -> Published:
    from rtdl_revisiting_models import FTTransformer

    default = FTTransformer.get_default_kwargs()
    model = FTTransformer(n_cont_features=7, cat_cardinalities=[4, 9], d_out=3, **default)

    def call(n: int) -> tuple[Any, ...]:
        return torch.randn(n, 7), torch.stack([torch.randint(0, 4, (n,)), torch.randint(0, 9, (n,))], 1)

    rows = Dim("rows", min=1, max=256)
    return Published(model, call, (6, 33), [{0: rows}, {0: rows}])


@published("tab-transformer-pytorch", "tabular", "rows", "without the branch for negative categories, in a subclass")
def tab_transformer() -> Published:
    from tab_transformer_pytorch import TabTransformer

    model = TabTransformer(categories=(10, 5, 6), num_continuous=4, dim=32, depth=3, heads=4, mlp_act=nn.ReLU())

    def call(n: int) -> tuple[Any, ...]:
        return torch.stack([torch.randint(0, c, (n,)) for c in (10, 5, 6)], 1), torch.randn(n, 4)

    rows = Dim("rows", min=1, max=256)
    return Published(model, call, (6, 33), [{0: rows}, {0: rows}])


@published("pytorch-tabnet", "tabular", "rows")
def tabnet() -> Published:
    from pytorch_tabnet.tab_network import TabNet

    model = TabNet(12, 3, cat_idxs=[0, 5], cat_dims=[6, 4], cat_emb_dim=[2, 2], group_attention_matrix=torch.eye(12))

    def call(n: int) -> tuple[Any, ...]:
        x = torch.randn(n, 12)
        x[:, 0], x[:, 5] = torch.randint(0, 6, (n,)).float(), torch.randint(0, 4, (n,)).float()
        return (x,)

    return Published(model, call, (6, 33), [{0: Dim("rows", min=1, max=128)}])


@published("deepctr-torch", "tabular", "rows")
def deepctr() -> Published:
    from deepctr_torch.inputs import DenseFeat, SparseFeat
    from deepctr_torch.models import DeepFM

    columns = [SparseFeat(f"c{i}", 20, 8) for i in range(4)] + [DenseFeat(f"d{i}", 1) for i in range(3)]
    model = DeepFM(columns, columns)

    def call(n: int) -> tuple[Any, ...]:
        return (torch.cat([torch.randint(0, 20, (n, 4)).float(), torch.randn(n, 3)], 1),)

    return Published(model, call, (6, 33), [{0: Dim("rows", min=1, max=256)}])


# Time series.


@published("nbeats-pytorch", "time series", "series")
def nbeats() -> Published:
    from nbeats_pytorch.model import NBeatsNet

    model = NBeatsNet(forecast_length=5, backcast_length=20, hidden_layer_units=64)
    return Published(model, lambda n: (torch.randn(n, 20),), (6, 33), [{0: Dim("series", min=1, max=256)}])


@published("iTransformer", "time series", "series")
def itransformer() -> Published:
    from iTransformer import iTransformer

    model = iTransformer(
        num_variates=13, lookback_len=32, depth=2, dim=64, pred_length=(4, 8), use_reversible_instance_norm=True
    )
    return Published(model, lambda n: (torch.randn(n, 32, 13),), (2, 5), [{0: Dim("series", min=1, max=64)}])


@published("pytorch-tcn", "time series", "steps")
def tcn() -> Published:
    from pytorch_tcn import TCN

    model = TCN(num_inputs=6, num_channels=[16, 16, 8], kernel_size=4)
    return Published(model, lambda n: (torch.randn(2, 6, n),), (40, 77), [{2: Dim("steps", min=1, max=500)}])


@published("gluonts", "time series", "series")
def gluonts() -> Published:
    from gluonts.torch.model.patch_tst.module import PatchTSTModel

    model = PatchTSTModel(8, 32, 8, 4, "end", 32, 4, 64, 0, 0.1, "relu", True, 2, "mean")
    n = Dim("series", min=1, max=64)

    def call(n: int) -> tuple[Any, ...]:
        return torch.randn(n, 32), (torch.rand(n, 32) > 0.2).float()

    return Published(model, call, (2, 5), [{0: n}, {0: n}])


# Text in images.


def rapidocr_model(name: str) -> nn.Module:
    from omegaconf import OmegaConf
    from rapidocr.inference_engine.pytorch.networks.architectures.base_model import BaseModel
    from rapidocr.inference_engine.pytorch.networks.main import ModelLoader

    return BaseModel(OmegaConf.load(ModelLoader.DEFAULT_CFG_PATH).get(name))


@published("rapidocr", "OCR", "width of the line")
def rapidocr_recognition() -> Published:
    model = rapidocr_model("PP-OCRv6_rec_small")
    width = Dim("width", min=16, max=640)
    return Published(model, lambda n: (torch.randn(1, 3, 48, n),), (100, 171), [{3: width}])


@published("rapidocr", "OCR", "height and width")
def rapidocr_detection() -> Published:
    model = rapidocr_model("PP-OCRv6_det_tiny")
    dynamic = [{2: 32 * Dim("h", min=1, max=20), 3: 32 * Dim("w", min=1, max=20)}]
    return Published(model, lambda n: (torch.randn(1, 3, 32 * n, 64),), (2, 3), dynamic)


# Local features, tracking, pose.


@published("kornia", "matching", "images")
def hardnet() -> Published:
    from kornia.feature import HardNet

    model = HardNet(pretrained=False)
    return Published(model, lambda n: (torch.rand(n, 1, 32, 32),), (3, 7), [{0: Dim("patches", min=1, max=64)}])


@published("kornia", "matching", "height and width")
def disk() -> Published:
    from kornia.feature import DISK

    dynamic = [{2: 16 * Dim("h", min=1, max=20), 3: 16 * Dim("w", min=1, max=20)}]
    method = "heatmap_and_dense_descriptors"
    return Published(DISK(), lambda n: (torch.rand(1, 3, 16 * n, 48),), (2, 5), dynamic, method)


@published(
    "kornia",
    "matching",
    "nothing",
    "DISK's heat map and descriptors, and matching outside",
)
def loftr() -> Published:
    from kornia.feature import LoFTR

    def call(n: int) -> tuple[Any, ...]:
        return ({"image0": torch.rand(1, 1, 8 * n, 64), "image1": torch.rand(1, 1, 8 * n, 64)},)

    return Published(LoFTR(pretrained=None), call, (8, 10))


# Point clouds and molecules.


@published("point-transformer-pytorch", "point cloud", "points")
def point_transformer() -> Published:
    from point_transformer_pytorch import PointTransformerLayer

    model = PointTransformerLayer(dim=32, pos_mlp_hidden_dim=16, attn_mlp_hidden_mult=2, num_neighbors=8)
    points = Dim("points", min=9, max=256)

    def call(n: int) -> tuple[Any, ...]:
        return torch.randn(1, n, 32), torch.randn(1, n, 3)

    return Published(model, call, (16, 27), [{1: points}, {1: points}])


@published("pointnet", "point cloud", "points")
def pointnet() -> Published:
    from pointnet import STN, PointNetSeg

    model = PointNetSeg(3, 10, stn_3d=STN(in_dim=3))
    return Published(model, lambda n: (torch.randn(2, 3, n),), (64, 101), [{2: Dim("points", min=1, max=2048)}])


@published("egnn-pytorch", "point cloud", "atoms")
def egnn() -> Published:
    from egnn_pytorch import EGNN_Network

    model = EGNN_Network(num_tokens=21, num_positions=256, dim=16, depth=2, num_nearest_neighbors=4)
    atoms = Dim("atoms", min=5, max=200)

    def call(n: int) -> tuple[Any, ...]:
        return torch.randint(0, 21, (1, n)), torch.randn(1, n, 3)

    return Published(model, call, (16, 27), [{1: atoms}, {1: atoms}])


# Graphs.


def graph(nodes: int, edges: int) -> tuple[Tensor, Tensor]:
    return torch.randn(nodes, 16), torch.randint(0, nodes, (2, edges))


GRAPH = [{0: Dim("nodes", min=1, max=500)}, {1: Dim("edges", min=1, max=4000)}]


def geometric(name: str, **kwargs: Any) -> Published:
    from torch_geometric import nn as geometric

    model = getattr(geometric, name)(16, 32, num_layers=2, out_channels=7, **kwargs)
    return Published(model, lambda n: graph(n, 4 * n), (20, 33), GRAPH)


@published("torch-geometric", "graph", "nodes and edges", "add_self_loops=False, and a graph that has its loops")
def gcn() -> Published:
    return geometric("GCN")


@published("torch-geometric", "graph", "nodes and edges")
def gat() -> Published:
    return geometric("GAT", heads=4, add_self_loops=False)


@published("torch-geometric", "graph", "nodes and edges")
def gin() -> Published:
    return geometric("GIN", norm="batch_norm", jk="cat")


@published("torch-geometric", "graph", "nodes and edges")
def sage() -> Published:
    return geometric("GraphSAGE", jk="lstm")


# Diffusion.


@published("diffusers", "diffusion", "height and width")
def unet2d() -> Published:
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    dynamic = [{2: 2 * Dim("h", min=2, max=32), 3: 2 * Dim("w", min=2, max=32)}, None]
    return Published(model, lambda n: (torch.randn(1, 3, 2 * n, 16), torch.tensor(10 * n)), (8, 11), dynamic)


@published("diffusers", "diffusion", "height and width, tokens")
def unet_condition() -> Published:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    dynamic = [{2: 2 * Dim("h", min=2, max=32), 3: 2 * Dim("w", min=2, max=32)}, None, {1: Dim("s", min=1, max=77)}]

    def call(n: int) -> tuple[Any, ...]:
        return torch.randn(2, 4, 2 * n, 16), torch.tensor(7 * n), torch.randn(2, n, 32)

    return Published(model, call, (8, 11), dynamic)


@published("diffusers", "diffusion", "height and width")
def vae() -> Published:
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    dynamic = [{2: 2 * Dim("h", min=2, max=64), 3: 2 * Dim("w", min=2, max=64)}]
    return Published(model, lambda n: (torch.rand(1, 3, 2 * n, 24),), (8, 11), dynamic)


@published("diffusers", "diffusion", "batch")
def dit() -> Published:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(4, 16, num_layers=2, sample_size=8, norm_num_groups=4)
    batch = Dim("batch", min=1, max=16)

    def call(n: int) -> tuple[Any, ...]:
        return torch.randn(n, 4, 8, 8), torch.randint(0, 1000, (n,)), torch.randint(0, 1000, (n,))

    return Published(model, call, (2, 5), [{0: batch}, {0: batch}, {0: batch}])


# Text.


@published("x-transformers", "text", "tokens")
def x_transformers() -> Published:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=64, depth=2, heads=4, rotary_pos_emb=True, ff_glu=True, attn_flash=True, use_rmsnorm=True)
    model = TransformerWrapper(num_tokens=1000, max_seq_len=128, attn_layers=layers)
    return Published(model, lambda n: (tokens(1000, n),), (12, 29), [{1: Dim("t", min=1, max=128)}])


@published("performer-pytorch", "text", "tokens")
def performer() -> Published:
    from performer_pytorch import PerformerLM

    model = PerformerLM(num_tokens=1000, max_seq_len=128, dim=64, depth=2, heads=4, dim_head=16)
    return Published(model, lambda n: (tokens(1000, n),), (12, 29), [{1: Dim("t", min=1, max=128)}])


@published("curated-transformers", "text", "tokens")
def curated_bert() -> Published:
    from curated_transformers.layers.attention import AttentionMask
    from curated_transformers.models import BERTConfig, BERTEncoder

    config = BERTConfig(
        embedding_width=64,
        hidden_width=64,
        intermediate_width=128,
        n_attention_heads=4,
        n_hidden_layers=2,
        n_pieces=1000,
    )
    t = Dim("t", min=1, max=128)

    def call(n: int) -> tuple[Any, ...]:
        return tokens(1000, n), AttentionMask(torch.arange(n)[None] < torch.tensor([[n], [n // 2 + 1]]))

    return Published(BERTEncoder(config), call, (12, 29), [{1: t}, [{3: t}]])


@published("pytorch-crf", "text", "batch")
def crf() -> Published:
    from torchcrf import CRF

    batch = Dim("batch", min=1, max=64)

    def call(n: int) -> tuple[Any, ...]:
        return torch.randn(12, n, 5), torch.randint(0, 5, (12, n))

    return Published(CRF(5), call, (2, 5), [{1: batch}, {1: batch}])


# Pictures and vectors.


@published("monai", "segmentation", "height and width")
def monai_unet() -> Published:
    from monai.networks.nets import UNet

    model = UNet(2, 1, 2, (8, 16, 32), (2, 2), num_res_units=2)
    dynamic = [{2: 4 * Dim("h", min=2, max=64), 3: 4 * Dim("w", min=2, max=64)}]
    return Published(model, lambda n: (torch.rand(1, 1, 4 * n, 32),), (8, 11), dynamic)


@published("perceiver-pytorch", "pictures", "height and width")
def perceiver() -> Published:
    from perceiver_pytorch import Perceiver

    model = Perceiver(
        num_freq_bands=6,
        depth=2,
        max_freq=10.0,
        num_latents=16,
        latent_dim=32,
        latent_heads=4,
        cross_dim_head=16,
        latent_dim_head=16,
        num_classes=10,
    )
    dynamic = [{1: Dim("h", min=2, max=64), 2: Dim("w", min=2, max=64)}]
    return Published(model, lambda n: (torch.rand(1, n, 16, 3),), (16, 21), dynamic)


@published("vector-quantize-pytorch", "diffusion", "vectors")
def residual_vq() -> Published:
    from vector_quantize_pytorch import ResidualVQ

    model = ResidualVQ(dim=32, num_quantizers=4, codebook_size=64)
    return Published(model, lambda n: (torch.randn(1, n, 32),), (12, 29), [{1: Dim("n", min=1, max=512)}])


@published("mingru-pytorch", "text", "steps")
def min_gru() -> Published:
    from minGRU_pytorch import minGRU

    return Published(minGRU(32), lambda n: (torch.randn(2, n, 32),), (12, 29), [{1: Dim("t", min=1, max=512)}])
