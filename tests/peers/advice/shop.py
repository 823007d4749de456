"""Loops in the code of django-oscar."""

from django.contrib.auth.models import User
from oscar.core.loading import get_model

from tests.peers.advice.corpus import count, each, fetch, join, loop, new
from tests.peers.advice.rows import many

WishList, WishLine = get_model("wishlists", "WishList"), get_model("wishlists", "Line")
Order, OrderLine = get_model("order", "Order"), get_model("order", "Line")
LineAttribute, Discount = get_model("order", "LineAttribute"), get_model("order", "OrderDiscount")
Surcharge, StatusChange = get_model("order", "Surcharge"), get_model("order", "OrderStatusChange")
Product, ProductImage = get_model("catalogue", "Product"), get_model("catalogue", "ProductImage")
AttributeValue = get_model("catalogue", "ProductAttributeValue")
StockRecord = get_model("partner", "StockRecord")
Review, Vote = get_model("reviews", "ProductReview"), get_model("reviews", "Vote")
Voucher, VoucherSet = get_model("voucher", "Voucher"), get_model("voucher", "VoucherSet")
VoucherApplication = get_model("voucher", "VoucherApplication")
Offer, Range = get_model("offer", "ConditionalOffer"), get_model("offer", "Range")
WeightBased, WeightBand = get_model("shipping", "WeightBased"), get_model("shipping", "WeightBand")


@loop(
    "django-oscar",
    "wishlists/abstract_models.py AbstractWishList.__str__",
    lambda: many(WishList),
    *join("wishlists.WishList", "owner"),
)
def oscar_wish_list(q):
    return [str(row) for row in q(WishList)]


@loop(
    "django-oscar",
    "wishlists/abstract_models.py AbstractLine.__str__",
    lambda: many(WishLine),
    *join("wishlists.Line", "wishlist"),
)
def oscar_wish_list_line(q):
    return [str(row) for row in q(WishLine)]


@loop(
    "django-oscar",
    "wishlists/abstract_models.py AbstractLine.get_title",
    lambda: many(WishLine, product=new(Product, title="", parent=new(Product, title="Parent"))),
    *join("wishlists.Line", "product", "product__parent"),
)
def oscar_wish_list_title(q):
    return [row.get_title() for row in q(WishLine)]


@loop(
    "django-oscar",
    "order/abstract_models.py AbstractOrder.num_lines",
    each(OrderLine, "order", lambda: many(Order)),
    count("order.Order", "lines"),
    followed=lambda q: [row.lines_count for row in q(Order)],
)
def oscar_order_number_of_lines(q):
    return [row.num_lines for row in q(Order)]


@loop(
    "django-oscar",
    "order/abstract_models.py AbstractOrder.num_items",
    each(OrderLine, "order", lambda: many(Order), quantity=3),
    fetch("order.Order", "lines"),
)
def oscar_order_number_of_items(q):
    return [row.num_items for row in q(Order)]


@loop(
    "django-oscar",
    "order/abstract_models.py AbstractOrder.surcharge_incl_tax",
    each(Surcharge, "order", lambda: many(Order)),
    fetch("order.Order", "surcharges"),
)
def oscar_order_surcharges(q):
    return [row.surcharge_incl_tax for row in q(Order)]


@loop(
    "django-oscar",
    "order/abstract_models.py AbstractOrder.basket_total_before_discounts_incl_tax",
    each(OrderLine, "order", lambda: many(Order)),
    (
        "annotate",
        'order.Order: annotate(lines_sum=Sum("lines__line_price_before_discounts_incl_tax", default=...))',
    ),
    fills=("0",),
    followed=lambda q: [row.lines_sum or 0 for row in q(Order)],
)
def oscar_order_total(q):
    return [row.basket_total_before_discounts_incl_tax for row in q(Order)]


@loop(
    "django-oscar",
    "order/abstract_models.py AbstractOrder.basket_discounts",
    each(Discount, "order", lambda: many(Order), category="Basket"),
    (
        "prefetch_related",
        (
            'order.Order: prefetch_related(Prefetch("discounts", '
            'queryset=OrderDiscount.objects.filter(category=...), to_attr="..."))'
        ),
    ),
    fills=("'Basket'", "of_basket"),
    followed=lambda q: [[one.pk for one in row.of_basket] for row in q(Order)],
)
def oscar_order_discounts(q):
    return [[one.pk for one in row.basket_discounts] for row in q(Order)]


@loop(
    "django-oscar",
    "order/abstract_models.py AbstractLine.description",
    each(
        LineAttribute,
        "line",
        lambda: many(OrderLine),
        value="red",
        option=new(get_model("catalogue", "Option")),
    ),
    fetch("order.Line", "attributes"),
    fetch("order.Line", "attributes__option"),
)
def oscar_order_line(q):
    return [row.description for row in q(OrderLine)]


@loop(
    "django-oscar",
    "order/abstract_models.py AbstractOrderStatusChange.__str__",
    lambda: many(StatusChange),
    *join("order.OrderStatusChange", "order"),
)
def oscar_status_change(q):
    return [str(row) for row in q(StatusChange)]


@loop(
    "django-oscar",
    "catalogue/abstract_models.py AbstractProduct.get_title",
    lambda: many(Product, title="", structure="child", parent=new(Product, title="Parent")),
    *join("catalogue.Product", "parent"),
)
def oscar_product_title(q):
    return [row.get_title() for row in q(Product).filter(structure="child")]


@loop(
    "django-oscar",
    "catalogue/abstract_models.py AbstractProduct.primary_image",
    each(ProductImage, "product", lambda: many(Product)),
    fetch("catalogue.Product", "images"),
)
def oscar_product_image(q):
    return [row.primary_image().pk for row in q(Product)]


@loop(
    "django-oscar",
    "catalogue/abstract_models.py AbstractProduct.num_approved_reviews",
    each(Review, "product", lambda: many(Product), status=1),
    (
        "annotate",
        (
            'catalogue.Product: annotate(reviews_count=Count("reviews", filter=Q(reviews__status=...), '
            "distinct=True))"
        ),
    ),
    fills=("1",),
    followed=lambda q: [row.reviews_count for row in q(Product)],
)
def oscar_product_reviews(q):
    return [row.num_approved_reviews for row in q(Product)]


@loop(
    "django-oscar",
    "catalogue/abstract_models.py AbstractProduct.has_stockrecords",
    each(StockRecord, "product", lambda: many(Product)),
    (
        "annotate",
        (
            "catalogue.Product: annotate(annotated_has_stockrecords=Exists("
            'StockRecord.objects.filter(product=OuterRef("pk"))))'
        ),
    ),
    followed=lambda q: [row.annotated_has_stockrecords for row in q(Product)],
)
def oscar_product_stock(q):
    return [row.has_stockrecords for row in q(Product)]


@loop(
    "django-oscar",
    "catalogue/abstract_models.py AbstractProductAttributeValue.summary",
    lambda: many(AttributeValue, value_text="red"),
    *join("catalogue.ProductAttributeValue", "attribute"),
)
def oscar_attribute_value(q):
    return [row.summary() for row in q(AttributeValue)]


@loop(
    "django-oscar",
    "partner/abstract_models.py AbstractStockRecord.__str__",
    lambda: many(StockRecord),
    *join("partner.StockRecord", "partner", "product"),
)
def oscar_stock_record(q):
    return [str(row) for row in q(StockRecord)]


@loop(
    "django-oscar",
    "voucher/abstract_models.py AbstractVoucherSet.num_orders",
    each(Voucher, "voucher_set", lambda: many(VoucherSet), num_orders=3),
    ("annotate", 'voucher.VoucherSet: annotate(vouchers_sum=Sum("vouchers__num_orders"))'),
    followed=lambda q: [row.vouchers_sum for row in q(VoucherSet)],
)
def oscar_voucher_set(q):
    return [row.num_orders for row in q(VoucherSet)]


def vouchers_with_offers():
    for voucher in many(Voucher):
        voucher.offers.set(many(Offer, 2))


@loop(
    "django-oscar",
    "voucher/abstract_models.py AbstractVoucher.benefit",
    vouchers_with_offers,
    (
        "prefetch_related",
        (
            'voucher.Voucher: prefetch_related(Prefetch("offers", '
            'queryset=ConditionalOffer.objects.order_by("-priority", "pk")[:1], to_attr="..."))'
        ),
    ),
    *join("offer.ConditionalOffer", "benefit"),
    fills=("first_offers",),
    followed=lambda q: [row.first_offers[0].benefit.pk for row in q(Voucher)],
)
def oscar_voucher_benefit(q):
    return [row.benefit.pk for row in q(Voucher)]


@loop(
    "django-oscar",
    "voucher/abstract_models.py AbstractVoucherApplication.__str__",
    lambda: many(VoucherApplication, user=new(User)),
    *join("voucher.VoucherApplication", "voucher", "user"),
)
def oscar_voucher_application(q):
    return [str(row) for row in q(VoucherApplication)]


@loop(
    "django-oscar",
    "shipping/abstract_models.py AbstractWeightBased.num_bands",
    each(WeightBand, "method", lambda: many(WeightBased)),
    count("shipping.WeightBased", "bands"),
    followed=lambda q: [row.bands_count for row in q(WeightBased)],
)
def oscar_shipping_bands(q):
    return [row.num_bands for row in q(WeightBased)]


@loop(
    "django-oscar",
    "shipping/abstract_models.py AbstractWeightBased.top_band",
    each(WeightBand, "method", lambda: many(WeightBased)),
    (
        "prefetch_related",
        (
            'shipping.WeightBased: prefetch_related(Prefetch("bands", '
            'queryset=WeightBand.objects.order_by("-upper_limit")[:1], to_attr="..."))'
        ),
    ),
    fills=("top_bands",),
    followed=lambda q: [row.top_bands[0].pk for row in q(WeightBased)],
)
def oscar_shipping_top_band(q):
    return [row.top_band.pk for row in q(WeightBased)]


@loop(
    "django-oscar",
    "templates/oscar/customer/wishlists/wishlists_list.html",
    each(WishLine, "wishlist", lambda: many(WishList)),
    count("wishlists.WishList", "lines"),
    followed=lambda q: [row.lines_count for row in q(WishList)],
)
def oscar_wish_lists_page(q):
    from django.template import Context, Engine

    text = "{% for wishlist in wishlists %}{{ wishlist.lines.count }} {% endfor %}"
    return [int(n) for n in Engine().from_string(text).render(Context({"wishlists": q(WishList)})).split()]
