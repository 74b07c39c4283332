"""The operator library from Python: opcheck, gradcheck, and the definition written in PyTorch.

usage: check_ops.py PATH/libpower_attention.so
"""
import sys
import warnings

import torch

warnings.filterwarnings("ignore", message=".*CUDA initialization.*")
torch.ops.load_library(sys.argv[1])
ops = torch.ops.power_attention


def definition(q, k, v, log_g, degree, scale):
    """All pairs: w_ij = (scale q_i.k_j)^p exp(c_i - c_j), y = sum_j w_ij v_j / sum_j w_ij."""
    r, offset = q.shape[2] // k.shape[2], k.shape[1] - q.shape[1]
    k, v = k.repeat_interleave(r, 2), v.repeat_interleave(r, 2)
    w = (torch.einsum("bihd,bjhd->bhij", q, k) * scale) ** degree
    if log_g is not None:
        c = log_g.cumsum(1).transpose(1, 2).repeat_interleave(r, 1)
        w = w * torch.exp(c[:, :, offset:, None] - c[:, :, None, :])
    w = w.tril(offset)
    return torch.einsum("bhij,bjhd->bihd", w, v) / w.sum(-1).transpose(1, 2)[..., None]


def inputs(batch, query_len, key_len, heads, group, dim, value_dim, dtype=torch.float64, grad=True):
    g = torch.Generator().manual_seed(0)
    randn = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64).to(dtype).requires_grad_(grad)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    log_g = torch.nn.functional.logsigmoid(2 + torch.randn(batch, key_len, heads, generator=g, dtype=torch.float64))
    return (randn(batch, query_len, heads * group, dim), randn(batch, key_len, heads, dim),
            randn(batch, key_len, heads, value_dim), log_g.to(real).requires_grad_(grad))


def state(k, v, degree):
    s, z = ops.update_state(k.detach(), v.detach(), None, degree)
    return s.squeeze(1).requires_grad_(), z.squeeze(1).requires_grad_()


def check_definition():
    q, k, v, log_g = inputs(2, 5, 9, 2, 3, 4, 6)
    for degree, chunk in ((2, None), (2, 0), (2, 4), (4, 0)):
        y, _, _ = ops.power_attention(q, k, v, log_g, degree=degree, scale=0.7, chunk_size=chunk)
        ref = definition(q, k, v, log_g, degree, 0.7)
        torch.testing.assert_close(y, ref, rtol=1e-11, atol=1e-11)
        dy = torch.randn_like(y)
        for a, b in zip(torch.autograd.grad(y, (q, k, v, log_g), dy), torch.autograd.grad(ref, (q, k, v, log_g), dy)):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def check_gradients():
    q, k, v, log_g = inputs(1, 3, 4, 1, 2, 2, 3)
    s, z = state(k, v, 2)
    for chunk in (0, 2):
        torch.autograd.gradcheck(lambda *x: ops.power_attention(*x, chunk_size=chunk, return_state=True),
                                 (q, k, v, log_g, s, z))
    torch.autograd.gradcheck(lambda *x: ops.attention(*x, normalize=False), (q, k, v, log_g))
    torch.autograd.gradcheck(lambda *x: ops.update_state(*x, chunk_size=3), (k, v, log_g))
    q4 = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    s2, z2 = (t.detach().repeat(1, 2, *[1] * (t.dim() - 2)).requires_grad_()
              for t in ops.update_state(k.detach(), v.detach()))
    torch.autograd.gradcheck(lambda *x: ops.query_state(*x, chunk_size=2), (q4, s2, z2, log_g))
    x = torch.randn(2, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    decay = (-torch.rand(2, 3, 1, dtype=torch.float64)).requires_grad_()
    torch.autograd.gradcheck(lambda *a: ops.discumsum(*a), (x, decay, x[:, 0].detach().clone().requires_grad_()))


def check_registrations():
    """opcheck: schema (no hidden aliasing or mutation), autograd registration, fake tensors, torch.compile's tracing."""
    q, k, v, log_g = inputs(1, 4, 6, 2, 2, 4, 4, torch.float32)
    s, z = state(k, v, 2)
    opcheck = torch.library.opcheck
    for kwargs in ({}, {"chunk_size": 2}, {"return_state": True}, {"degree": 4, "normalize": "layer"}):
        opcheck(ops.power_attention.default, (q, k, v, log_g), kwargs)
    opcheck(ops.power_attention.default, (q, k, v), {})
    opcheck(ops.power_attention.default, (q, k, v, log_g, s, z), {"return_state": True})
    opcheck(ops.attention.default, (q, k, v, log_g), {})
    opcheck(ops.update_state.default, (k, v, log_g), {"chunk_size": 4})
    opcheck(ops.discumsum.default, (torch.randn(1, 3, 2, 5, requires_grad=True), -torch.rand(1, 3, 2)), {})
    s1, z1 = ops.update_state(k.detach(), v.detach())
    opcheck(ops.query_state.default, (q, s1, z1, log_g[:, :4].detach()), {})
    plain = [t.detach() for t in (q, k[:, :4], v[:, :4], log_g[:, :4])]
    opcheck(ops.power_attention_step.default, (*plain, None, None, None, None, None), {})
    opcheck(ops.power_attention_step.default, (*plain, s.detach(), z.detach(), None, None, None), {"switch_over": 2})


def check_step():
    q, k, v, log_g = inputs(1, 10, 10, 2, 1, 4, 4, grad=False)
    ref, _, _ = ops.power_attention(q, k, v, log_g)
    carried, rows = [None] * 5, []
    for t in range(10):
        y, s, z, *caches = ops.power_attention_step(q[:, t:t + 1], k[:, t:t + 1], v[:, t:t + 1], log_g[:, t:t + 1],
                                                    *carried, switch_over=4)
        carried = [s if s.numel() else carried[0], z if z.numel() else carried[1], *caches]
        rows.append(y)
    torch.testing.assert_close(torch.cat(rows, 1), ref, rtol=1e-11, atol=1e-11)


def check_decode():
    """On CUDA: token by token against the whole sequence. Elsewhere: the operator says where it runs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    q, k, v, log_g = (t.to(device) for t in inputs(2, 40, 40, 2, 2, 32, 32, torch.bfloat16, grad=False))
    if device == "cpu":
        try:
            ops.decode_step(q, k, v, log_g, torch.zeros(2, 2, 256, dtype=torch.uint8))
        except ValueError as error:
            assert "decode_step runs on CUDA only" in str(error), error
            return
        raise AssertionError("decode_step ran on the CPU")
    ref, state, key_sum = ops.power_attention(*(t.double().cpu() for t in (q, k, v, log_g)), return_state=True)
    cache = ops.decode_cache(2, 2, 32, window=16, device=device)
    y = torch.cat([ops.decode_step(*(x[:, t:t + 1] for x in (q, k, v, log_g)), cache, window=16) for t in range(40)], 1)
    assert (y.cpu().double() - ref).norm() / ref.norm() < 0.0058
    s, z = ops.decode_export(cache, 32, window=16)
    torch.testing.assert_close(s.cpu().double(), state, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(z.cpu().double(), key_sum, rtol=1e-3, atol=1e-4)
    ops.decode_import(s, z, cache, window=16)
    torch.library.opcheck(ops.decode_step.default, (q, k, v, log_g, cache), {"window": 16})
    torch.library.opcheck(ops.decode_import.default, (s, z, cache), {"window": 16})
    torch.library.opcheck(ops.decode_export.default, (cache, 32), {"window": 16})


def check_errors():
    q, k, v, log_g = inputs(1, 4, 4, 1, 1, 4, 4)
    for kwargs, text in (({"scale": 0.0}, "scale is 0"), ({"degree": 5}, "any even degree"),
                         ({"normalize": "max"}, "supported: sum, layer, none")):
        try:
            ops.power_attention(q, k, v, log_g, **kwargs)
        except ValueError as error:
            assert text in str(error), error
        else:
            raise AssertionError(f"{kwargs} was accepted")
    for call in (lambda: ops.discumsum(q[0, 0]), lambda: ops.update_state(k, v, log_g, 2, 0),
                 lambda: ops.power_attention_step(q, k[:, :2], v[:, :2], log_g, None, None, None, None, None)):
        try:
            call()
        except ValueError:
            continue
        raise AssertionError("a wrong argument was accepted")


for check in (check_definition, check_gradients, check_step, check_decode, check_errors, check_registrations):
    torch.manual_seed(0)
    check()
    print(f"{check.__name__}: ok", flush=True)
