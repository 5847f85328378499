/* A folder of pictures with captions of the same name, one subject in each. */
#include <stdlib.h>

#include "data/importer.h"

static err take(importer *im, const char *path, const double box[4])
{
    const char *text = import_caption_beside(im, path);
    if (!text) {
        import_skip(im, "a picture without a caption beside it", "%s", path);
        return OK;
    }
    subject one = {.phrase = im->o->phrase, .box = {box[0], box[1], box[2], box[3]}};
    sample s = {.image = path, .text = text, .subject = &one, .subjects = 1, .units = BOX_NORMALIZED};
    return import_add(im, &s);
}

err import_folder(importer *im)
{
    double box[4];
    import_list pictures;
    if (!im->o->phrase)
        return err_set(E_USAGE, "msd import folder: --phrase is missing; give what the captions call the subject, "
                                "e.g. --phrase dog");
    TRY(import_box_option(box, im->o));
    TRY(import_list_pictures(im, &pictures, im->o->source, true));
    progress bar = progress_start(im->log, "import", "pictures", 0, pictures.count);
    err e = OK;
    for (int64_t i = 0; i < pictures.count && e == OK; i++) {
        e = take(im, pictures.item[i], box);
        progress_update(&bar, i + 1, NULL);
    }
    progress_end(&bar);
    free(pictures.item);
    return e;
}
