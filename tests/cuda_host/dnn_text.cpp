/* Plans as text: the graph's nodes as numbers, where the library has its JSON. */
#include "dnn_graph.h"

#include <sstream>

namespace cuda_host {

namespace {

const char FIRST[] = "cuda_host_plan_1";
const int  MOST = 64; /* nodes, and tensors of one */

void put(std::ostream &to, const std::vector<graph_tensor> &list)
{
    to << ' ' << list.size();
    for (const graph_tensor &t : list) {
        to << ' ' << t.id << ' ' << (int)t.type << ' ' << t.is_virtual << ' ' << t.by_value;
        for (int i = 0; i < 4; i++)
            to << ' ' << t.dim[i] << ' ' << t.stride[i];
    }
}

bool get(std::istream &from, std::vector<graph_tensor> *list)
{
    size_t count = 0;
    int    type = 0;
    if (!(from >> count) || count > MOST)
        return false;
    for (size_t n = 0; n < count; n++) {
        graph_tensor t;
        from >> t.id >> type >> t.is_virtual >> t.by_value;
        t.type = (cudnnDataType_t)type;
        for (int i = 0; i < 4; i++)
            if (!(from >> t.dim[i] >> t.stride[i]) || t.dim[i] < 1 || t.stride[i] < 0)
                return false;
        if (type != CUDNN_DATA_FLOAT && type != CUDNN_DATA_BFLOAT16)
            return false;
        list->push_back(t);
    }
    return true;
}

} // namespace

std::string text_of(const std::vector<graph_node> &nodes)
{
    std::ostringstream to;
    to.precision(9);
    to << FIRST << ' ' << nodes.size();
    for (const graph_node &n : nodes) {
        to << ' ' << (int)n.kind << ' ' << n.mode << ' ' << n.alpha << ' ' << n.beta;
        for (int i = 0; i < 2; i++)
            to << ' ' << n.pad[i] << ' ' << n.step[i] << ' ' << n.dilation[i];
        put(to, n.in);
        put(to, n.out);
    }
    to << " end";
    return to.str();
}

bool nodes_of_text(std::vector<graph_node> *nodes, const std::string &text)
{
    std::istringstream from(text);
    std::string        word;
    size_t             count = 0;
    if (!(from >> word >> count) || word != FIRST || !count || count > MOST)
        return false;
    for (size_t i = 0; i < count; i++) {
        graph_node n;
        int        kind = 0;
        from >> kind >> n.mode >> n.alpha >> n.beta;
        for (int k = 0; k < 2; k++)
            from >> n.pad[k] >> n.step[k] >> n.dilation[k];
        if (!from || kind < NODE_CONVOLUTION || kind > NODE_ATTENTION || !get(from, &n.in) || !get(from, &n.out) || n.in.empty() ||
            n.out.empty())
            return false;
        n.kind = (node_kind)kind;
        nodes->push_back(n);
    }
    return bool(from >> word) && word == "end";
}

} // namespace cuda_host
