#include "data/bitmap_font.h"

enum { FIRST = 32, LAST = 126, OTHER = LAST + 1 };

/* A glyph is seven rows from the top, each a number of five bits, the leftmost highest, as one digit 0-9 a-v. */
static const char glyph[OTHER - FIRST + 1][FONT_HEIGHT + 1] = {
    "0000000", "4444404", "aaa0000", "aavavaa", "4fke5u4", "op248j3", "cik8lid", "4400000", "2488842", "8422248",
    "04lel40", "044v440", "0000c48", "000v000", "00000cc", "01248g0", "ehjlphe", "4c4444e", "eh1248v", "v2421he",
    "26aiv22", "vgu11he", "68guhhe", "v124888", "ehhehhe", "ehhf12c", "0cc0cc0", "0cc0c48", "248g842", "00v0v00",
    "8421248", "eh12404", "eh1dlle", "ehhvhhh", "uhhuhhu", "ehggghe", "sihhhis", "vgguggv", "vgguggg", "ehgnhhf",
    "hhhvhhh", "e44444e", "72222ic", "hikokih", "ggggggv", "hrllhhh", "hhpljhh", "ehhhhhe", "uhhuggg", "ehhhlid",
    "uhhukih", "fgge11u", "v444444", "hhhhhhe", "hhhhha4", "hhhllla", "hha4ahh", "hhha444", "v1248gv", "e88888e",
    "0g84210", "e22222e", "4ah0000", "000000v", "8420000", "00e1fhf", "ggmphhu", "00egghe", "11djhhf", "00ehvge",
    "698s888", "00fhf1e", "ggmphhh", "40c444e", "20622ic", "ggikoki", "c44444e", "00qllhh", "00mphhh", "00ehhhe",
    "00uhugg", "00djf11", "00mpggg", "00ege1u", "88s8896", "00hhhjd", "00hhha4", "00hhlla", "00ha4ah", "00hhf1e",
    "00v248v", "6448446", "4444444", "c44244c", "008l200", "vhhhhhv",
};

bool bitmap_font_dot(uint32_t code, int x, int y)
{
    if (x < 0 || x >= FONT_WIDTH || y < 0 || y >= FONT_HEIGHT)
        return false;
    char digit = glyph[(code >= FIRST && code <= LAST ? code : OTHER) - FIRST][y];
    int row = digit <= '9' ? digit - '0' : digit - 'a' + 10;
    return row >> (FONT_WIDTH - 1 - x) & 1;
}
