#include "cli/args.h"

static void defaults(void *options)
{
    *(msd_generate_options *)options = msd_generate_defaults();
}

static int run(const void *options)
{
    return msd_generate(options);
}

#define AT(member) offsetof(msd_generate_options, member)
static const argument arguments[] = {
    {"--model", 'm', ARG_TEXT, AT(model), "DIR", true, "the SDXL pipeline folder (Hugging Face diffusers layout)"},
    {"--prompt", 'p', ARG_TEXT, AT(prompt), "TEXT", true, "what to draw; used as given"},
    {"--output", 'o', ARG_TEXT, AT(output), "OUT.png", true, "the picture; with -b N: OUT_0.png ..."},
    {"--image-encoder", 0, ARG_TEXT, AT(image_encoder), "DIR", false, "the OpenCLIP bigG vision folder (with --adapter)"},
    {"--adapter", 0, ARG_TEXT, AT(adapter), "FILE", false, "adapter .safetensors or .bin, or a checkpoint's step folder"},
    {"--subject", 0, ARG_LIST, AT(subjects), "SPEC", false,
     "image=F,phrase=T,box=x0,y0,x1,y1[,mask=F][,scale=S]; box in 0..1, none = whole picture"},
    {"--negative-prompt", 'n', ARG_TEXT, AT(negative_prompt), "TEXT", false,
     "what to avoid (default: monochrome, lowres, bad anatomy, worst quality, low quality)"},
    {"--width", 'W', ARG_WHOLE, AT(width), "N", false, "pixels (default 1024, or what the model was made for)"},
    {"--height", 'H', ARG_WHOLE, AT(height), "N", false, "pixels (default as --width)"},
    {"--steps", 0, ARG_WHOLE, AT(steps), "N", false, "denoising steps (default 30)"},
    {"--cfg-scale", 0, ARG_NUMBER, AT(cfg_scale), "X", false, "guidance (default 7.5; 1 or less switches it off)"},
    {"--scale", 0, ARG_NUMBER, AT(scale), "X", false, "strength of the subjects (default 0.6; 0.4 suits backgrounds)"},
    {"--seed", 's', ARG_WHOLE, AT(seed), "N", false, "seed of the noise, as torch.randn on the CPU draws it (default 0)"},
    {"--batch-count", 'b', ARG_WHOLE, AT(batch_count), "N", false, "pictures with seeds s ... s+N-1 (default 1)"},
    {"--sampling-method", 0, ARG_TEXT, AT(sampling_method), "NAME", false, "euler (default)"},
    {"--scheduler", 0, ARG_TEXT, AT(scheduler), "NAME", false, "discrete (default): as the model's scheduler_config.json says"},
    {"--drop-grounding", 0, ARG_FLAG, AT(drop_grounding), NULL, false, "ignore phrases and boxes in the resampler's queries"},
    GRAPHS_ARGUMENT(msd_generate_options),
    RUN_ARGUMENTS(msd_generate_options),
    {0},
};

const command command_generate = {
    .name = "generate",
    .summary = "draws pictures, with any number of subjects from reference photographs",
    .about = "Draws a picture with SDXL, and with an adapter places the subjects of the reference photographs in\n"
             "their boxes. Without --adapter it is plain SDXL. The PNG holds the parameters (A1111's form and JSON).",
    .arguments = arguments,
    .examples = "  msd generate --model sdxl -p \"a castle at dawn\" -o castle.png\n"
                "  msd generate --model sdxl --image-encoder bigG --adapter adapter.safetensors \\\n"
                "      --subject image=rex.jpg,phrase=dog,box=0,0.25,0.45,0.9 \\\n"
                "      --subject image=tom.jpg,phrase=cat,box=0.55,0.25,1,0.9 \\\n"
                "      -p \"a dog and a cat on the beach\" -o beach.png\n",
    .options_size = sizeof(msd_generate_options),
    .defaults = defaults,
    .run = run,
};
