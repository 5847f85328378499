#include "dnn_graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace cuda_host {

typedef std::vector<float> dense; /* in the order of the dimensions */

int64_t graph_tensor::reach() const
{
    int64_t last = 0;
    for (int i = 0; i < 4; i++)
        last += (dim[i] - 1) * stride[i];
    return last + 1;
}

namespace {

float rounded(float x, cudnnDataType_t type)
{
    uint32_t bits;
    if (type == CUDNN_DATA_FLOAT || x != x)
        return x;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

struct machine {
    const std::map<int64_t, void *> &memory;
    const std::map<int64_t, float>  &numbers;
    std::map<int64_t, dense>         between;

    template <class F> static void each(const graph_tensor &t, F f)
    {
        int64_t i = 0;
        for (int64_t a = 0; a < t.dim[0]; a++)
            for (int64_t b = 0; b < t.dim[1]; b++)
                for (int64_t c = 0; c < t.dim[2]; c++)
                    for (int64_t d = 0; d < t.dim[3]; d++)
                        f((size_t)i++, (size_t)(a * t.stride[0] + b * t.stride[1] + c * t.stride[2] + d * t.stride[3]));
    }

    dense read(const graph_tensor &t) const
    {
        if (t.by_value)
            return dense(1, numbers.at(t.id));
        if (t.is_virtual)
            return between.at(t.id);
        dense       v((size_t)t.count());
        const void *from = memory.at(t.id);
        each(t, [&](size_t i, size_t at) {
            uint32_t bits;
            if (t.type == CUDNN_DATA_FLOAT) {
                v[i] = ((const float *)from)[at];
                return;
            }
            bits = (uint32_t)((const uint16_t *)from)[at] << 16;
            memcpy(&v[i], &bits, sizeof bits);
        });
        return v;
    }

    void write(const graph_tensor &t, dense v)
    {
        for (float &x : v)
            x = rounded(x, t.type);
        if (t.is_virtual) {
            between[t.id] = std::move(v);
            return;
        }
        void *to = memory.at(t.id);
        each(t, [&](size_t i, size_t at) {
            uint32_t bits;
            memcpy(&bits, &v[i], sizeof bits);
            if (t.type == CUDNN_DATA_FLOAT)
                ((float *)to)[at] = v[i];
            else
                ((uint16_t *)to)[at] = v[i] != v[i] ? 0x7fff : (uint16_t)(bits >> 16);
        });
    }
};

void add_multiple(float *__restrict to, const float *__restrict from, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += factor * from[i];
}

/* x (n,c,h,w), w (k,c,r,s), y (n,k,p,q); backward: x from y. The channels of the result lie innermost while it is summed; each
 * of its elements gets one source channel after another, of each one place of the filter after another. */
void convolve(const graph_node &node, dense &x, const dense &w, dense &y, bool backward)
{
    const graph_tensor &tx = backward ? node.out[0] : node.in[0], &tw = node.in[1], &ty = backward ? node.in[0] : node.out[0];
    const int64_t       N = tx.dim[0], C = tx.dim[1], H = tx.dim[2], W = tx.dim[3], K = tw.dim[0], P = ty.dim[2], Q = ty.dim[3];
    const int64_t       R = tw.dim[2], S = tw.dim[3], from = backward ? K : C, to = backward ? C : K;
    const dense        &source = backward ? y : x;
    dense              &result = backward ? x : y;
    const int64_t       places = (int64_t)result.size() / to / N;
    dense               sum(result.size()), factors((size_t)to);
    for (int64_t i = 0; i < from * R * S; i++) {
        const int64_t channel = i / (R * S), r = i / S % R, s = i % S;
        for (int64_t o = 0; o < to; o++)
            factors[(size_t)o] = w[(size_t)((((backward ? channel * C + o : o * C + channel)) * R + r) * S + s)];
        for (int64_t at = 0; at < N * P * Q; at++) {
            const int64_t n = at / (P * Q), p = at / Q % P, q = at % Q;
            const int64_t row = p * node.step[0] + r * node.dilation[0] - node.pad[0];
            const int64_t column = q * node.step[1] + s * node.dilation[1] - node.pad[1];
            if (row < 0 || row >= H || column < 0 || column >= W)
                continue;
            const int64_t in_x = row * W + column, in_y = p * Q + q;
            const float   value = source[(size_t)((n * from + channel) * (backward ? P * Q : H * W) + (backward ? in_y : in_x))];
            add_multiple(&sum[(size_t)((n * places + (backward ? in_x : in_y)) * to)], factors.data(), value, to);
        }
    }
    for (int64_t i = 0; i < (int64_t)result.size(); i++)
        result[(size_t)i] = sum[(size_t)((i / places / to * places + i % places) * to + i / places % to)];
}

size_t broadcast(const graph_tensor &t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    int64_t at[4] = {a, b, c, d}, i = 0;
    for (int k = 0; k < 4; k++)
        i = i * t.dim[k] + (t.dim[k] == 1 ? 0 : at[k]);
    return (size_t)i;
}

float pointwise(int mode, float x, float b)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD: return x + b;
    case CUDNN_POINTWISE_SUB: return x - b;
    case CUDNN_POINTWISE_MUL: return x * b;
    case CUDNN_POINTWISE_DIV: return x / b;
    case CUDNN_POINTWISE_MAX: return std::max(x, b);
    case CUDNN_POINTWISE_EXP: return std::exp(x);
    case CUDNN_POINTWISE_LOG: return std::log(x);
    default: return x;
    }
}

template <class F> void each_place(const graph_tensor &t, F f)
{
    for (int64_t a = 0; a < t.dim[0]; a++)
        for (int64_t b = 0; b < t.dim[1]; b++)
            for (int64_t c = 0; c < t.dim[2]; c++)
                for (int64_t d = 0; d < t.dim[3]; d++)
                    f(a, b, c, d);
}

dense matmul(const graph_tensor &tc, const graph_tensor &ta, const dense &a, const graph_tensor &tb, const dense &b)
{
    dense c((size_t)tc.count());
    for (int64_t i = 0; i < tc.dim[0]; i++)
        for (int64_t h = 0; h < tc.dim[1]; h++)
            for (int64_t m = 0; m < tc.dim[2]; m++)
                for (int64_t k = 0; k < ta.dim[3]; k++) {
                    const float  left = a[broadcast(ta, i, h, m, k)];
                    const float *right = &b[broadcast(tb, i, h, k, 0)];
                    float       *sum = &c[(size_t)(((i * tc.dim[1] + h) * tc.dim[2] + m) * tc.dim[3])];
                    for (int64_t n = 0; n < tc.dim[3]; n++)
                        sum[n] += left * right[n];
                }
    return c;
}

void attend(machine &m, const graph_node &node)
{
    const graph_tensor &tq = node.in[0], &tk = node.in[1], &tv = node.in[2], &to = node.out[0];
    dense   q = m.read(tq), k = m.read(tk), v = m.read(tv), o((size_t)to.count()), stats((size_t)(tq.count() / tq.dim[3]));
    float   scale = node.in.size() > 3 ? m.read(node.in[3])[0] : 1.0f;
    int64_t keys = tk.dim[2], size = tq.dim[3];
    dense   p((size_t)keys);
    for (int64_t b = 0; b < tq.dim[0]; b++)
        for (int64_t h = 0; h < tq.dim[1]; h++)
            for (int64_t t = 0; t < tq.dim[2]; t++) {
                float most = -INFINITY, sum = 0;
                for (int64_t s = 0; s < keys; s++) {
                    float dot = 0;
                    for (int64_t i = 0; i < size; i++)
                        dot += q[broadcast(tq, b, h, t, i)] * k[broadcast(tk, b, h, s, i)];
                    most = std::max(most, p[(size_t)s] = dot * scale);
                }
                for (float &x : p)
                    sum += x = std::exp(x - most);
                for (int64_t s = 0; s < keys; s++)
                    for (int64_t i = 0; i < to.dim[3]; i++)
                        o[broadcast(to, b, h, t, i)] += rounded(p[(size_t)s] / sum, tv.type) * v[broadcast(tv, b, h, s, i)];
                stats[(size_t)((b * tq.dim[1] + h) * tq.dim[2] + t)] = most + std::log(sum);
            }
    m.write(to, o);
    if (node.out.size() > 1)
        m.write(node.out[1], stats);
}

/* The same memory by other dimensions and strides. */
dense reshaped(const graph_tensor &ty, const graph_tensor &tx, const dense &x)
{
    dense memory((size_t)std::max(tx.reach(), ty.reach()), NAN), y((size_t)ty.count());
    machine::each(tx, [&](size_t i, size_t at) { memory[at] = x[i]; });
    machine::each(ty, [&](size_t i, size_t at) { y[i] = memory[at]; });
    return y;
}

void run(machine &m, const graph_node &n)
{
    const graph_tensor &ty = n.out[0];
    dense               x = n.kind == NODE_ATTENTION ? dense() : m.read(n.in[0]), y((size_t)ty.count());
    switch (n.kind) {
    case NODE_ATTENTION: attend(m, n); return;
    case NODE_MATMUL: y = matmul(ty, n.in[0], x, n.in[1], m.read(n.in[1])); break;
    case NODE_RESHAPE: y = reshaped(ty, n.in[0], x); break;
    case NODE_CONVOLUTION:
    case NODE_CONVOLUTION_DX: {
        dense w = m.read(n.in[1]), old = n.beta != 0 ? m.read(ty) : dense(y.size());
        if (n.kind == NODE_CONVOLUTION)
            convolve(n, x, w, y, false);
        else
            convolve(n, y, w, x, true);
        for (size_t i = 0; i < y.size(); i++)
            y[i] = n.alpha * y[i] + (n.beta != 0 ? n.beta * old[i] : 0);
        break;
    }
    case NODE_POINTWISE: {
        dense  b = n.in.size() > 1 ? m.read(n.in[1]) : dense();
        size_t i = 0;
        each_place(ty, [&](int64_t p, int64_t q, int64_t r, int64_t s) {
            y[i++] = pointwise(n.mode, x[broadcast(n.in[0], p, q, r, s)], b.empty() ? 0 : b[broadcast(n.in[1], p, q, r, s)]);
        });
        break;
    }
    case NODE_REDUCTION: {
        size_t i = 0;
        if (n.mode == CUDNN_REDUCE_TENSOR_MAX)
            std::fill(y.begin(), y.end(), -INFINITY);
        each_place(n.in[0], [&](int64_t p, int64_t q, int64_t r, int64_t s) {
            float &to = y[broadcast(ty, p, q, r, s)];
            to = n.mode == CUDNN_REDUCE_TENSOR_MAX ? std::max(to, x[i]) : to + x[i];
            i++;
        });
        break;
    }
    }
    m.write(ty, std::move(y));
}

} // namespace

void interpret(const std::vector<graph_node> &nodes, const std::map<int64_t, void *> &memory, const std::map<int64_t, float> &numbers)
{
    machine m = {memory, numbers, {}};
    for (const graph_node &n : nodes)
        run(m, n);
}

} // namespace cuda_host
