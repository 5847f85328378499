/* A pipeline folder with a UNet, and an adapter file, of counter weights, as tests/reference/make_train_step.py has
 * them: sizes from a golden's metadata. */
#ifndef MSD_TESTS_SUPPORT_MODELS_H
#define MSD_TESTS_SUPPORT_MODELS_H

#include "support_golden.h"

/* Writes FOLDER/unet/config.json, FOLDER/unet/diffusion_pytorch_model.safetensors and FOLDER/adapter.safetensors; ends
 * the test program when it cannot. */
void models_write(const golden *data, const char *folder);

#endif
