/* Rows of the op test for linear, conv2d, the norms and the elementwise ops.
 * Goldens: tests/reference/make_ops_basic.py. */
#include "support_ops.h"

static tensor *run_linear(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_linear(g, in[0], in[1], in[2], in[3]);
}

static tensor *run_linear_onto_itself(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_linear(g, in[0], in[1], NULL, in[0]);
}

static tensor *run_conv2d(ag *g, tensor **in, const op_case *c)
{
    return ag_conv2d(g, in[0], in[1], in[2], in[3], c->with.p.conv);
}

static tensor *run_group_norm(ag *g, tensor **in, const op_case *c)
{
    return ag_group_norm(g, in[0], in[1], in[2], in[3], c->with.p.norm.groups, c->with.p.norm.eps, c->with.p.norm.silu);
}

static tensor *run_layer_norm(ag *g, tensor **in, const op_case *c)
{
    return ag_layer_norm(g, in[0], in[1], in[2], c->with.p.norm.eps);
}

static tensor *run_silu(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_silu(g, in[0]);
}

static tensor *run_gelu(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_gelu(g, in[0]);
}

static tensor *run_quick_gelu(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_quick_gelu(g, in[0]);
}

static tensor *run_geglu(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_geglu(g, in[0]);
}

static tensor *run_add(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_add(g, in[0], in[1]);
}

static tensor *run_add_itself(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_add(g, in[0], in[0]);
}

static tensor *run_mul(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_mul(g, in[0], in[1]);
}

static tensor *run_mul_itself(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_mul(g, in[0], in[0]);
}

static tensor *run_scale(ag *g, tensor **in, const op_case *c)
{
    return ag_scale(g, in[0], c->with.p.factor);
}

/* x is read by four ops: its gradient is summed over them */
static tensor *run_meeting(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    tensor *product = ag_mul(g, ag_silu(g, in[0]), in[0]);
    return ag_add(g, ag_linear(g, product, in[1], NULL, in[0]), ag_scale(g, in[0], 0.5f));
}

/* x of size 100 and deviation 0.6: x and its mean have 6e-8 * 100, which is 1e-5 of the deviation */
#define FAR_TOLERANCE 3e-5

static const op_case cases[] = {
    {"linear", &op_linear, "(3,4) (5,4) - -", .run = run_linear},
    {"linear_all", &op_linear, "(2,3,7) (5,7) (5) (2,3,5)", .run = run_linear},
    {"linear_one_row", &op_linear, "(1,33) (17,33) (17) -", .run = run_linear},
    {"linear_vector", &op_linear, "(13) (6,13) (6) (6)", .run = run_linear},
    {"linear_one_column", &op_linear, "(19,8) (1,8) (1) -", .run = run_linear},
    {"linear_one_term", &op_linear, "(4,1) (3,1) - (4,3)", .run = run_linear},
    {"linear_narrow", &op_linear, "(77,40) (3,40) - (77,3)", .run = run_linear},
    {"linear_large", &op_linear, "(70,129) (33,129) (33) -", .run = run_linear},
    {"linear_pictures", &op_linear, "(2,3,4,5) (9,5) (9) (2,3,4,9)", .run = run_linear},
    {"linear_frozen", &op_linear, "(2,6,16) (24,16) (24) (2,6,24)", .run = run_linear},
    {"linear_onto_itself", &op_linear, "(5,6) (6,6)", .run = run_linear_onto_itself},

    {"conv_3x3", &op_conv2d, "(2,9,7,5) (6,3,3,5) (6) -", run_conv2d, .with.p.conv = {1, 1, 1, 1, 1}},
    {"conv_residual", &op_conv2d, "(1,6,5,16) (32,3,3,16) (32) (1,6,5,32)", run_conv2d, .with.p.conv = {1, 1, 1, 1, 1}},
    {"conv_1x1", &op_conv2d, "(2,5,4,7) (9,1,1,7) - (2,5,4,9)", run_conv2d, .with.p.conv = {1, 0, 0, 0, 0}},
    {"conv_stride", &op_conv2d, "(1,9,8,4) (5,3,3,4) (5) -", run_conv2d, .with.p.conv = {2, 1, 1, 1, 1}},
    {"conv_vae_even", &op_conv2d, "(1,8,10,3) (7,3,3,3) (7) -", run_conv2d, .with.p.conv = {2, 0, 0, 1, 1}},
    {"conv_vae_odd", &op_conv2d, "(2,7,9,16) (16,3,3,16) (16) -", run_conv2d, .with.p.conv = {2, 0, 0, 1, 1}},
    {"conv_in", &op_conv2d, "(1,7,6,4) (32,3,3,4) (32) -", run_conv2d, .with.p.conv = {1, 1, 1, 1, 1}},
    {"conv_out", &op_conv2d, "(1,7,6,32) (4,3,3,32) (4) -", run_conv2d, .with.p.conv = {1, 1, 1, 1, 1}},
    {"conv_patches", &op_conv2d, "(1,28,42,3) (8,14,14,3) - -", run_conv2d, .with.p.conv = {14, 0, 0, 0, 0}},
    {"conv_pixel", &op_conv2d, "(3,1,1,3) (2,3,3,3) (2) -", run_conv2d, .with.p.conv = {1, 1, 1, 1, 1}},
    {"conv_uneven", &op_conv2d, "(1,5,6,3) (4,2,3,3) (4) (1,7,7,4)", run_conv2d, .with.p.conv = {1, 2, 0, 1, 3}},

    {"group_norm", &op_group_norm, "(2,5,3,12) - (12) (12)", run_group_norm, .with.p.norm = {4, 1e-5f, false}},
    {"group_norm_silu", &op_group_norm, "(1,4,7,10) - (10) (10)", run_group_norm, .with.p.norm = {5, 1e-6f, true}},
    {"group_norm_vec", &op_group_norm, "(2,4,3,8) (2,8) (8) (8)", run_group_norm, .with.p.norm = {2, 1e-5f, false}},
    {"group_norm_vec_silu", &op_group_norm, "(3,3,5,9) (3,9) (9) (9)", run_group_norm, .with.p.norm = {3, 1e-5f, true}},
    {"group_norm_one_group", &op_group_norm, "(2,3,3,7) (2,7) (7) (7)", run_group_norm,
     .with.p.norm = {1, 1e-5f, true}},
    {"group_norm_single_channels", &op_group_norm, "(1,6,5,5) - (5) (5)", run_group_norm,
     .with.p.norm = {5, 1e-5f, true}},
    {"group_norm_rows", &op_group_norm, "(2,17,31,6) (2,6) (6) (6)", run_group_norm, .with.p.norm = {3, 1e-5f, true}},
    {"group_norm_tokens", &op_group_norm, "(3,7,10) - (10) (10)", run_group_norm, .with.p.norm = {5, 1e-6f, false}},
    {"group_norm_far", &op_group_norm, "stored - (8) (8)", run_group_norm, FAR_TOLERANCE, .far = true,
     .with.p.norm = {2, 1e-5f, false}},
    {"group_norm_flat", &op_group_norm, "stored - (4) (4)", run_group_norm, .with.p.norm = {2, 1e-5f, false}},

    {"layer_norm", &op_layer_norm, "(3,5,7) (7) (7)", run_layer_norm, .with.p.norm.eps = 1e-5f},
    {"layer_norm_plain", &op_layer_norm, "(4,9) - -", run_layer_norm, .with.p.norm.eps = 1e-5f},
    {"layer_norm_weight", &op_layer_norm, "(4,6) (6) -", run_layer_norm, .with.p.norm.eps = 1e-6f},
    {"layer_norm_bias", &op_layer_norm, "(4,6) - (6)", run_layer_norm, .with.p.norm.eps = 1e-5f},
    {"layer_norm_vector", &op_layer_norm, "(37) (37) (37)", run_layer_norm, .with.p.norm.eps = 1e-5f},
    {"layer_norm_large", &op_layer_norm, "(70,133) (133) (133)", run_layer_norm, .with.p.norm.eps = 1e-5f},
    {"layer_norm_frozen", &op_layer_norm, "(2,3,16) (16) (16)", run_layer_norm, .with.p.norm.eps = 1e-5f},
    {"layer_norm_far", &op_layer_norm, "stored (32) (32)", run_layer_norm, FAR_TOLERANCE, .far = true, .with.p.norm.eps = 1e-5f},
    {"layer_norm_flat", &op_layer_norm, "stored (8) (8)", run_layer_norm, .with.p.norm.eps = 1e-5f},

    {"silu", &op_silu, "(7,13)*8", .run = run_silu},
    {"silu_far", &op_silu, "stored", .run = run_silu},
    {"gelu", &op_gelu, "(7,13)*8", .run = run_gelu},
    {"gelu_far", &op_gelu, "stored", .run = run_gelu},
    {"gelu_long", &op_gelu, "(130,127)*4", .run = run_gelu},
    {"quick_gelu", &op_quick_gelu, "(7,13)*8", .run = run_quick_gelu},
    {"quick_gelu_far", &op_quick_gelu, "stored", .run = run_quick_gelu},
    {"geglu", &op_geglu, "(3,4,10)*4", .run = run_geglu},
    {"geglu_one", &op_geglu, "(5,2)", .run = run_geglu},
    {"geglu_large", &op_geglu, "(9,134)*6", .run = run_geglu},

    {"add", &op_add, "(3,4,5) (3,4,5)", .run = run_add},
    {"add_bias", &op_add, "(300,33) (33)", .run = run_add},
    {"add_middle", &op_add, "(2,3,4) (2,1,4)", .run = run_add},
    {"add_column", &op_add, "(2,3,4) (3,1)", .run = run_add},
    {"add_first", &op_add, "(4,5,6) (1,5,6)", .run = run_add},
    {"add_mixed", &op_add, "(2,3,4,5) (3,1,5)", .run = run_add},
    {"add_one", &op_add, "(2,3,4) (1)", .run = run_add},
    {"add_itself", &op_add, "(3,5)", .run = run_add_itself},
    {"mul", &op_mul, "(3,4,5) (3,4,5)", .run = run_mul},
    {"mul_bias", &op_mul, "(300,33) (33)", .run = run_mul},
    {"mul_middle", &op_mul, "(2,3,4) (2,1,4)", .run = run_mul},
    {"mul_column", &op_mul, "(2,3,4) (3,1)", .run = run_mul},
    {"mul_first", &op_mul, "(4,5,6) (1,5,6)", .run = run_mul},
    {"mul_mixed", &op_mul, "(2,3,4,5) (3,1,5)", .run = run_mul},
    /* the gradient of b is 0.05, a sum of 24 numbers of size 0.3 */
    {"mul_one", &op_mul, "(2,3,4) (1)", .run = run_mul, .far = true},
    {"mul_itself", &op_mul, "(3,5)", .run = run_mul_itself},
    {"scale", &op_scale, "(3,5)", run_scale, .with.p.factor = 0.7f},
    {"scale_negative", &op_scale, "(2,2,3)", run_scale, .with.p.factor = -2.5f},
    {"meeting", &op_mul, "(4,6) (6,6)", .run = run_meeting},
};

const op_suite suite_basic = {"ops_basic.safetensors", cases, sizeof cases / sizeof *cases};
