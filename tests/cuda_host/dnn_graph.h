/* A cuDNN graph as plain values, and its dense interpreter. */
#ifndef CUDA_HOST_DNN_GRAPH_H
#define CUDA_HOST_DNN_GRAPH_H

#include <cudnn.h>

#include <array>
#include <map>
#include <string>
#include <vector>

namespace cuda_host {

typedef std::array<int64_t, 4> extents;

struct graph_tensor {
    int64_t         id = 0;
    extents         dim{}, stride{};
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    bool            is_virtual = false, by_value = false;

    int64_t count() const { return dim[0] * dim[1] * dim[2] * dim[3]; }
    int64_t reach() const; /* elements from the first to behind the last */
};

enum node_kind { NODE_CONVOLUTION, NODE_CONVOLUTION_DX, NODE_POINTWISE, NODE_MATMUL, NODE_REDUCTION, NODE_RESHAPE, NODE_ATTENTION };

struct graph_node {
    node_kind                 kind = NODE_POINTWISE;
    int                       mode = 0; /* of pointwise and reduction */
    std::vector<graph_tensor> in;       /* x, w | x[, b] | a, b | q, k, v, scale */
    std::vector<graph_tensor> out;      /* y | o[, stats] */
    int64_t                   pad[2] = {0, 0}, step[2] = {1, 1}, dilation[2] = {1, 1};
    float                     alpha = 1, beta = 0;
};

/* A plan as text and back (dnn_text.cpp); false where the text is none. */
std::string text_of(const std::vector<graph_node> &nodes);
bool        nodes_of_text(std::vector<graph_node> *nodes, const std::string &text);

/* Runs the nodes in turn; memory: of real tensors by id, and of numbers, by value. Sums in f32. */
void interpret(const std::vector<graph_node> &nodes, const std::map<int64_t, void *> &memory, const std::map<int64_t, float> &numbers);

} // namespace cuda_host

#endif
